"""Ablations: the suite, priors and attention by hand, what is measured on the toy, and the command."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from fss_lab import load_model
from fss_lab.backbones.toy import WEIGHTS
from fss_lab.cli import commands as cli
from fss_lab.episode import Subset
from fss_lab.evaluation import ablation
from fss_lab.evaluation.measurement import (
    BEFORE,
    background_attention,
    background_mass,
    measure_each,
    prior_fit,
    prior_fits,
    summarise,
)
from fss_lab.evaluation.scoring import check_shared_encoders
from fss_lab.evaluation.variants import FULL, GROUPS, PRIOR_ALONE, suite
from fss_lab.evaluation.worlds import ToyWorld
from fss_lab.figures.prediction import iou
from fss_lab.method.options import CALIBRATIONS as MODES
from fss_lab.method.prompts import resize
from fss_lab.toyworld.pictograms import Pictograms


def test_a_prior_is_compared_by_shares_of_cells_and_cut_at_one_half() -> None:
    prior = torch.tensor([[[[0.5, 1.0], [0.0, 0.25]]]])  # 2 x 2 cells, 4 x 4 pixels
    mask = torch.zeros(1, 4, 4, dtype=torch.uint8)
    mask[0, :2] = 1  # the upper cells are covered,
    mask[0, 2, 2:] = 255  # unscored pixels below them are background for the shares
    soft, cut = prior_fit(prior, mask)[0, 0].tolist()
    assert soft == pytest.approx((0.5 + 1) / (1 + 1 + 0.25))
    # aligned corners: rows at 0, 1/3, 2/3, 1; above one half are the pixels below (by row) 3, 3, 2, 0
    above = resize(prior, (4, 4))[0, 0] > 0.5
    scored = mask[0] != 255
    assert cut == pytest.approx(float((above & (mask[0] == 1)).sum() / ((above | (mask[0] == 1)) & scored).sum()))


def test_background_mass_by_hand() -> None:
    covered = torch.tensor([[1.0, 0.5, 0.0]])
    attention = torch.tensor([[[0.2, 0.2, 0.4], [0.0, 0.4, 0.1], [9.0, 9.0, 9.0]]])[None]  # one head; rows are queries
    # cell 0: 0.2 * 0 + 0.2 * 0.5 + 0.4 * 1 = 0.5; cell 1, which counts half: 0.2 + 0.1 = 0.3; cell 2 is background
    assert background_mass(attention, covered, 1 - covered).tolist() == pytest.approx([(0.5 + 0.5 * 0.3) / 1.5])
    heads = attention.repeat(1, 4, 1, 1)
    assert background_mass(heads, covered, 1 - covered).tolist() == pytest.approx([0.65 / 1.5])
    clear = (covered == 0).float()  # cell 2 alone: 0.4, and 0.1 by half
    assert background_mass(attention, covered, clear).tolist() == pytest.approx([(0.4 + 0.5 * 0.1) / 1.5])


def test_the_suite_has_every_variant_once() -> None:
    models = ToyWorld(weights={"mine": str(WEIGHTS / "toy_fold{fold}_fssam.safetensors")}, variants=suite).models(1)
    check_shared_encoders(models)
    own = {name: m.options for name, m in models.items() if "support" not in name and "trained" not in name}
    assert len(set(own.values())) == len(own) == 5 + 4 + 5 + 2 + 2
    assert list(models)[:4] == ["support memory, not fine-tuned", "support memory, fine-tuned", PRIOR_ALONE, "PPG"]
    assert models["trained: mine"].options == models[FULL].options
    for variants in GROUPS.values():
        for changes in variants.values():
            wanted = {**asdict(models[FULL].options), **changes}
            assert any(asdict(o) == wanted or (not wanted["rounds"] and not o.rounds) for o in own.values())


@pytest.mark.slow
def test_measures_of_the_toy_are_those_of_its_trace() -> None:
    model, episodes = load_model("toy", fold=1), Pictograms(1, episodes=3)
    fits = prior_fits(model, episodes, rounds=2, batch_size=2)
    assert fits.shape == (3, 3, 2)
    prediction = model.variant(rounds=2).segment(episodes[2], trace=True)
    truth = (episodes[2].query_mask == 1).float().reshape(16, 16, 16, 16).mean((1, 3))
    for column, prior in enumerate([resize(prediction.trace.pseudo_prior, (16, 16)), prediction.trace.rounds[1].prior]):
        prior = prior[0, 0]
        expected = float(torch.minimum(prior, truth).sum() / torch.maximum(prior, truth).sum())
        assert fits[2, 2 * column, 0] == pytest.approx(expected, abs=1e-4)
        expected = iou(resize(prior[None, None], (256, 256))[0, 0] > 0.5, episodes[2].query_mask)
        assert fits[2, 2 * column, 1] == pytest.approx(expected, abs=1e-4)

    masses = background_attention({"on": model, "off": model.variant(calibration="off")}, episodes, batch_size=2)
    assert masses["on"].shape == (3, len(model.sam2.model.memory_attention.layers), 2, 2)
    assert (masses["on"] > 0).all() and (masses["on"] < 1).all()
    layer, covered = model.segment(episodes[2], trace=True).trace.layers[1], truth.reshape(1, -1)
    for kind, background in enumerate((1 - covered, (covered == 0).float())):
        expected = background_mass(layer.attention[..., layer.columns.query], covered, background)
        assert masses["on"][2, 1, 1, kind] == pytest.approx(float(expected), abs=1e-4)
    np.testing.assert_array_equal(masses["off"][:, :, 0], masses["off"][:, :, 1])  # no bias
    np.testing.assert_allclose(masses["on"][:, 0, 0], masses["off"][:, 0, 0], rtol=1e-4)  # the same up to the bias
    with pytest.raises(ValueError, match="this needs a pseudo memory"):
        background_attention({"baseline": model.variant(memory="support")}, episodes)


def test_measurements_are_pooled_and_differences_paired() -> None:
    model = load_model("toy", fold=1)
    first, second = Pictograms(1, episodes=4, size=64), Pictograms(1, seed=1, episodes=1, size=64)
    pooled = summarise([measure_each(model, episodes, rounds=1) for episodes in (Subset(first, range(1)), second)])
    assert pooled.episodes == 2 and list(pooled.attention) == list(pooled.change) == ["edge", "clear"]
    assert list(pooled.prior) == list(pooled.gain) == ["soft", "cut"]
    for word, prior in pooled.prior.items():
        assert pooled.gain[word]["v1"][0].estimate == pytest.approx(prior["v1"][1].estimate - prior["v1"][0].estimate)
    for word, attention in pooled.attention.items():
        assert set(attention) == {BEFORE, *MODES}
        change = attention["corrected"][-1].estimate / attention["off"][-1].estimate - 1
        assert pooled.change[word]["corrected against off"][-1].estimate == pytest.approx(change)
        assert attention["corrected"] == attention["as_published"]  # one shot


@pytest.mark.slow
def test_ablate_from_the_command_line(tmp_path, capsys, monkeypatch) -> None:
    output = tmp_path / "out"
    command = ["ablate", "--folds", "2", "--shots", "1", "--episodes", "1", "--threads", "2", "--output", str(output)]
    threads, before = [], torch.get_num_threads()

    def spy(*arguments, **options):
        threads.append(torch.get_num_threads())
        return measure_each(*arguments, **options)

    monkeypatch.setattr(ablation, "measure_each", spy)
    assert cli.main(command) == 0
    assert threads == [2] and torch.get_num_threads() == before
    text = (output / "ablation.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() == text.strip()
    for heading in ("Parts", "Rounds of refinement (IMR)", "Calibration (SCMA)", "Prior (PPG)", "what IMR and SCMA do"):
        assert f"## 1-shot: {heading}" in text
    rows = "| IMR v1, 0 rounds |", "| SCMA averaged ", "| SCMA as_published |", "| prior: truth ", "- PPG + SCMA: "
    for row in (*rows, "1 episodes:"):
        assert row in text
    content = json.loads((output / "ablation.json").read_text())
    own = content["shots"]["1"]
    assert own["measurement"]["episodes"] == 1 and FULL not in own["differences"]["Parts"]
    assert len(own["differences"]["Rounds of refinement (IMR)"]["IMR v2, 5 rounds"]) == 3
    assert {path.name for path in output.glob("*.png")} == {"results.png", "prior_1_shot.png", "attention_1_shot.png"}

    files = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    assert cli.main(command) == 0  # all is there already
    assert threads == [2] and {path: path.read_bytes() for path in files} == files
    kept = output / "measured" / "fold2_1shot_seed0.first1.json"
    kept.write_text(kept.read_text().replace('"threads": 2', '"threads": 1'))
    assert cli.main(command) == 1
    assert "threads 1, not 2" in capsys.readouterr().err

    def full(*arguments, **options) -> None:
        raise MemoryError

    kept.unlink()
    monkeypatch.setattr(ablation, "measure_each", full)
    assert cli.main(command) == 1
    assert "not enough memory: lower batch_size" in capsys.readouterr().err


@pytest.mark.slow
def test_what_a_vote_decides_is_not_measured_in_the_fused_model(tmp_path, capsys) -> None:
    command = "ablate --protocol hsnet --images 40 --folds 1 --shots 2 --episodes 1 --output"
    assert cli.main([*command.split(), str(tmp_path)]) == 0
    assert "is not measured: here a vote over one-shot masks answers" in capsys.readouterr().out
    assert not (tmp_path / "measured").exists() and not list(tmp_path.glob("prior_*"))

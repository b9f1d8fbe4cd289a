"""Evaluation of several variants on the same episodes, by protocol, and from the command line."""

import csv
import json

import numpy as np
import pytest
import torch
from helpers.tiny_images import Threshold, TinyImages

from fss_lab import load_model
from fss_lab.backbones.checkpoints import save_run, save_safetensors
from fss_lab.backbones.toy import WEIGHTS
from fss_lab.cli import commands as cli
from fss_lab.datasets.protocols import BENCHMARKS, ListedEpisodes, draw_episodes
from fss_lab.episode import Subset, collate
from fss_lab.errors import CheckpointError
from fss_lab.evaluation import jobs, scoring
from fss_lab.evaluation.scoring import (
    FULL,
    STEPS,
    evaluate,
    evaluate_toy,
    load_weights,
    one_shot,
    table,
    toy_models,
    toy_variants,
    vote,
    weights_digest,
)
from fss_lab.metrics import SegmentationScore
from fss_lab.toyworld.pictograms import Pictograms


def test_scores_are_those_of_one_episode_at_a_time() -> None:
    model, episodes = load_model("toy"), Pictograms(0, episodes=3, seed=1)
    together = evaluate({"a": model, "b": model.variant(rounds=0)}, episodes, batch_size=2)
    alone = SegmentationScore(episodes.classes)
    for episode in episodes:
        with torch.no_grad():
            alone.update(model(collate([episode])).logits[0] > 0, episode.query_mask, episode.class_id)
    # A pixel on the edge may fall either way when batches are added up in another order.
    np.testing.assert_allclose(together["a"].counts, alone.counts, atol=3)
    assert len(together["b"]) == 3


def test_models_with_other_encoders_are_refused() -> None:
    model, other = load_model("toy"), load_model("toy")
    with torch.no_grad():
        next(other.features.parameters()).add_(1)
    with pytest.raises(ValueError, match="'other' has other frozen encoders than 'model'"):
        evaluate({"model": model, "other": other}, Pictograms(0, episodes=1))
    with pytest.raises(ValueError, match="no model"):
        evaluate({}, Pictograms(0, episodes=1))
    half = load_model("toy")
    half.precision = "bfloat16"
    with pytest.raises(ValueError, match="'half' has other frozen encoders"):
        evaluate({"model": model, "half": half}, Pictograms(0, episodes=1))
    with torch.no_grad():
        next(other.features.parameters()).sub_(1)
        next(other.features.buffers()).add_(1)
    with pytest.raises(ValueError, match="has other frozen encoders"):
        evaluate({"model": model, "other": other}, Pictograms(0, episodes=1))


def test_models_that_differ_behind_the_encoders_are_evaluated_together(tmp_path) -> None:
    trained = {n: p.detach() + 1 for n, p in load_model("toy").trainable_parameters(["sam_prompt_encoder.*"])}
    save_safetensors(tmp_path / "run.safetensors", trained)
    models = toy_models(0, {"mine": str(tmp_path / "run.safetensors")})
    chosen = {name: models[name] for name in (FULL, "trained: mine")}
    assert weights_digest(chosen[FULL]) != weights_digest(chosen["trained: mine"])
    scores = evaluate(chosen, Pictograms(0, episodes=1, size=64))
    assert [len(score) for score in scores.values()] == [1, 1]


def test_folds_are_merged_into_one_score_over_all_classes() -> None:
    scores = evaluate_toy(folds=(1, 3), episodes=1)
    assert [len(score) for score in scores.values()] == [2] * 6
    assert scores["PPG"].class_ids == (*range(5, 10), *range(15, 20))
    assert set(STEPS) <= set(scores)


def test_a_part_has_the_episodes_asked_for() -> None:
    episodes = Pictograms(2, episodes=5, size=64)
    part = Subset(episodes, range(1, 5, 3))
    assert len(part) == 2 and part.classes == episodes.classes
    for own, number in zip(part, (1, 4), strict=True):
        assert torch.equal(own.query_image, episodes[number].query_image)


def test_table_is_markdown_in_percent() -> None:
    score = SegmentationScore([0], np.array([[0, 50, 100, 80, 100], [0, 50, 100, 80, 100]]))
    lines = table({"half": score}).splitlines()
    assert lines[2].startswith("| half    | 50.0 [50.0, 50.0]") and "65.0 [65.0, 65.0]" in lines[2]
    assert len({line.count("|") for line in lines}) == 1


# ---- protocols


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([5, 3, 2, 0], [1, 1, 0, 0]),  # half of 5 is 2.5
        ([4, 2, 1, 0], [1, 1, 0, 0]),  # exactly half is enough
        ([1, 0, 0, 1], [1, 0, 0, 1]),
        ([0, 0, 0, 0], [0, 0, 0, 0]),
    ],
)
def test_votes_by_hand(votes: list[int], expected: list[int]) -> None:
    masks = torch.tensor([[[vote > shot for vote in votes]] for shot in range(5)])  # 5, 1, 4
    assert vote(masks).tolist() == [[bool(value) for value in expected]]
    assert torch.equal(vote(masks[:1]), masks[0])


def test_one_shot_of_several_is_what_that_support_alone_gives() -> None:
    model, several = load_model("toy"), Pictograms(0, shots=2, episodes=2)
    batch = collate(list(several))
    second = collate([
        type(e)(e.query_image, e.query_mask, e.support_images[1:], e.support_masks[1:], e.class_id, e.class_name)
        for e in several
    ])  # fmt: skip
    with torch.no_grad():
        one, alone = model.predict(model.encode(one_shot(model.extract(batch), 1))), model(second)
    torch.testing.assert_close(one.logits, alone.logits, atol=2e-3, rtol=1e-4)


def test_hsnet_votes_over_one_shot_answers_and_fssam_asks_the_model_once() -> None:
    images = TinyImages(without="gh")
    images.classes = (3, 5)
    model = Threshold()
    for name, protocol in BENCHMARKS.items():
        episodes = ListedEpisodes(draw_episodes(protocol, images, 2, 8), images)
        score = evaluate({"": model}, episodes, batch_size=3)[""]
        for row, episode in zip(score.counts.tolist(), episodes, strict=True):
            features = model.extract(collate([episode]))
            if name == "fssam":
                mask = model.predict(model.encode(features)).logits[0] > 0
            else:  # of two votes one is enough
                mask = (model.predict(model.encode(one_shot(features, 0))).logits > 0)[0]
                mask = mask | (model.predict(model.encode(one_shot(features, 1))).logits > 0)[0]
            alone = SegmentationScore(images.classes)
            alone.update(mask, episode.query_mask, episode.class_id)
            assert row == alone.counts[0].tolist()


def test_iou_is_counted_at_the_labels_size_or_at_the_models_square() -> None:
    images, sizes = TinyImages(), {}
    for name, protocol in BENCHMARKS.items():
        episodes = ListedEpisodes(draw_episodes(protocol, images, 1, 4), images, size=18)
        counts = evaluate({"": Threshold()}, episodes)[""].counts
        sizes[name] = set((counts[:, 1] + counts[:, 4]).tolist())  # pixels that are not ignored
    assert sizes == {"fssam": {6 * 5}, "hsnet": {18 * 15}}


# ---- weights of one's own


def test_the_digest_is_of_all_weights_and_of_nothing_else() -> None:
    model, same = load_model("toy", fold=1), load_model("toy", fold=1, rounds=0)
    assert weights_digest(model) == weights_digest(same) != weights_digest(load_model("toy", fold=2))
    with torch.no_grad():
        list(same.sam2.model.parameters())[-1].view(-1)[0] += 1e-6
    assert weights_digest(model) != weights_digest(same)


def test_own_weights_take_the_place_of_the_shipped_ones(tmp_path) -> None:
    shipped = str(WEIGHTS / "toy_fold{fold}_fssam.safetensors")
    assert weights_digest(load_weights(shipped, fold=2)) == weights_digest(load_model("toy", fold=2))
    assert load_weights(shipped, fold=2, rounds=0).options.rounds == 0
    assert "support memory, fine-tuned" not in toy_variants(0, {"fssam": shipped})
    models = toy_variants(0, {"baseline": shipped, "mine": shipped})
    assert models["support memory, fine-tuned"].options.memory == "support"
    assert weights_digest(models["trained: mine"]) == weights_digest(models[FULL])

    with pytest.raises(ValueError, match="was trained on fold 3, so it has seen the novel classes of fold 0"):
        load_weights(str(WEIGHTS / "toy_fold3_fssam.safetensors"), fold=0)
    save_safetensors(tmp_path / "other.safetensors", {"elephant": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="weights that this SAM 2 does not have: elephant"):
        load_weights(tmp_path / "other.safetensors", fold=0)


def test_weights_of_a_run_bring_its_options(tmp_path) -> None:
    some = dict(list(load_model("toy", fold=1).trainable_parameters())[:2])
    path = str(tmp_path / "fold{fold}.safetensors")
    run = {"memory": "support", "rounds": 1, "weights": "fssam", "steps": 5, "model": "toy"}
    save_safetensors(tmp_path / "fold1.safetensors", some, {"config": json.dumps(run), "fold": "1"})
    model = load_weights(path, fold=1)
    assert (model.options.memory, model.options.rounds, model.options.calibration) == ("support", 1, "corrected")
    assert weights_digest(model) == weights_digest(load_model("toy", fold=1))  # the rest is what the run began with
    with pytest.raises(ValueError, match="was trained with memory='support'; give it as baseline="):
        toy_variants(1, {"fssam": path})
    unfinished = {"facts": {**run, "fold": 1}, "model": {name: tensor.detach() for name, tensor in some.items()}}
    save_run(tmp_path / "best.pt", unfinished)
    assert load_weights(tmp_path / "best.pt", fold=1).options == model.options
    with pytest.raises(ValueError, match="was trained on fold 1, so it has seen the novel classes of fold 0"):
        load_weights(tmp_path / "best.pt", fold=0)
    save_safetensors(tmp_path / "fold1.safetensors", some, {"config": json.dumps({"model": "sam2-small"})})
    with pytest.raises(ValueError, match="was trained for sam2-small"):
        load_weights(path, fold=1)
    save_safetensors(tmp_path / "fold1.safetensors", some, {"config": json.dumps({"weights": "random"})})
    with pytest.raises(ValueError, match="was trained from random weights"):
        load_weights(path, fold=1)


# ---- the command


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command on tiny images, with stand-ins for the toy's variants."""

    def models(fold, weights=None, source=None):
        return {name: Threshold(level) for name, level in zip(STEPS, (3.0, 2.0, 1.0, 0.0), strict=True)}

    def episodes(fold, shots, seed, number, protocol=None, images=400, lists=None, look_alikes=False):
        source = TinyImages()
        return ListedEpisodes(draw_episodes(BENCHMARKS[protocol or "fssam"], source, shots, number, seed), source)

    monkeypatch.setattr(scoring, "toy_variants", models)
    monkeypatch.setattr(scoring, "toy_episodes", episodes)


def test_evaluate_writes_all_results_into_a_directory_or_the_text_into_a_file(tiny, tmp_path, capsys) -> None:
    command = ["evaluate", "--protocol", "hsnet", "--images", "12", "--folds", "1", "--episodes", "9", "--output"]
    assert cli.main([*command, str(tmp_path / "all")]) == 0
    text = (tmp_path / "all" / "results.md").read_text(encoding="utf-8")
    assert text == capsys.readouterr().out and "Protocol hsnet (queries: (image, class) pairs in order" in text
    assert (
        "What each step adds, in points of mIoU on the same episodes:\n\n- PPG over support memory, fine-tuned: "
        in text
    )
    assert f"- {FULL} over PPG + IMR: " in text
    (content,) = json.loads((tmp_path / "all" / "results.json").read_text())
    assert (content["shots"], content["seed"], content["fold"], len(content["list"])) == (1, 0, 1, 64)
    assert 0 < content["scores"][FULL]["miou"][0] <= 1
    with (tmp_path / "all" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(row["protocol"].startswith("hsnet") and len(row["weights"]) == 12 and row["list"] for row in rows)
    assert {row["metric"] for row in rows} == {"miou", "fb_iou", "iou cat", "iou dog", "iou cow"}
    assert (tmp_path / "all" / "results.png").exists()

    assert cli.main([*command, str(tmp_path / "new" / "report.md")]) == 0
    assert (tmp_path / "new" / "report.md").read_text(encoding="utf-8") == text == capsys.readouterr().out
    assert cli.main(command[:-1]) == 0
    assert capsys.readouterr().out == text


def test_evaluate_in_shards_ends_with_the_last(tiny, tmp_path, capsys) -> None:
    command = ["evaluate", "--folds", "1", "--episodes", "12", "--output", str(tmp_path)]
    assert cli.main([*command, "--shard", "2/2"]) == 0
    assert "this part is done" in capsys.readouterr().out and not (tmp_path / "results.md").exists()
    assert cli.main([*command, "--shard", "1/2"]) == 0
    assert "Protocol fssam" in capsys.readouterr().out and (tmp_path / "results.md").exists()


@pytest.mark.parametrize("how", [[], ["--identity"], ["--output", "report.md"], ["--output", "directory"]])
def test_no_way_of_evaluating_ignores_how_to_compute(how: list[str], tmp_path, monkeypatch) -> None:
    seen = {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        jobs, "run", lambda jobs, directory, settings, **rest: seen.update(rest, jobs=jobs, how=settings) or []
    )
    given = "--device meta --threads 3 --cache 7 --cache-directory kept --workers 4 --seeds 8 9 --folds 2 --episodes 5"
    assert cli.main(["evaluate", *how, *given.split()]) == 0
    settings = seen["how"]
    assert (settings.device, settings.threads, settings.cache_bytes) == ("meta", 3, 7_000_000)
    assert str(settings.cache_directory) == "kept" and seen["workers"] == 4
    identities = ["same", "other"] if "--identity" in how else ["other"]
    made = [job.episodes() for job in seen["jobs"]]
    wanted = [(2, seed, 5, identity) for seed in (8, 9) for identity in identities]
    assert [(e.fold, e.seed, len(e), e.identity) for e in made] == wanted


def test_identity_on_the_toy(tmp_path, capsys) -> None:
    report = tmp_path / "report.md"
    assert cli.main(["evaluate", "--folds", "1", "--episodes", "2", "--identity", "--output", str(report)]) == 0
    text = report.read_text(encoding="utf-8")
    assert "| memory shows the same identity " in text and "| memory shows another identity " in text
    assert "What each step adds" not in text and text == capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong", [["--shard", "3/2"], ["--shard", "0/1"], ["--protocol", "pfenet"], ["--workers", "0"], ["--seed", "-1"]]
)
def test_wrong_options_are_refused(wrong: list[str], capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main(["evaluate", *wrong])
    assert wrong[1] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--identity", "--protocol", "fssam"], "--identity goes without"),
        (["--identity", "--shots", "5"], "--identity goes without"),
        (["--identity", "--weights", "a.safetensors"], "--identity goes without"),
        (["--shard", "1/2"], "needs a directory"),
        (["--shard", "1/2", "--output", "x.md"], "needs a directory"),
        (["--images", "9"], "--images needs --protocol"),
        (["--weights", "a.safetensors", "fssam=b.safetensors"], "one file for each name .* got fssam, fssam"),
    ],
)
def test_options_that_do_not_go_together_are_refused(wrong: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=f"fss-lab evaluate: error: .*{message}"):
        cli.main(["evaluate", "--episodes", "1", *wrong])

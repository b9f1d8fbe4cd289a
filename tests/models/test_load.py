"""Models by name, and the weights that ship with the package."""

import json
from pathlib import Path

import pytest
import torch

from fss_lab import load_model
from fss_lab.backbones import toy
from fss_lab.backbones.checkpoints import load_metadata
from fss_lab.backbones.sam2 import Sam2Backbone
from fss_lab.episode import collate
from fss_lab.errors import CheckpointError
from fss_lab.evaluation import ToyWorld, evaluate
from fss_lab.toyworld.pictograms import Pictograms


@pytest.mark.parametrize("fold", range(4))
def test_the_shipped_weights_of_every_fold_load_and_differ(fold: int) -> None:
    fssam, baseline = load_model("toy", fold=fold), load_model("toy", fold=fold, weights="baseline")
    assert fssam.options.memory == "pseudo" and baseline.options.memory == "support"
    assert not fssam.training
    key = "memory_encoder.out_proj.weight"
    weights = [
        model.sam2.model.state_dict()[key] for model in (fssam, baseline, load_model("toy", weights="pretrained"))
    ]
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("fold", range(4))
def test_every_shipped_fold_was_trained_on_that_folds_base_classes(fold: int) -> None:
    for kind, memory in (("fssam", "pseudo"), ("baseline", "support")):
        facts = load_metadata(toy.WEIGHTS / f"toy_fold{fold}_{kind}.safetensors")
        run = json.loads(facts["config"])
        assert (facts["fold"], run["fold"], run["dataset"]) == (str(fold), fold, "pictograms")
        assert (run["memory"], run["weights"]) == (memory, "pretrained")
        # with the frozen networks that ship beside it, which this compares
        assert ToyWorld().load(toy.WEIGHTS / f"toy_fold{fold}_{kind}.safetensors", fold).options.memory == memory


def test_all_shipped_weights_together_stay_small() -> None:
    assert sum(path.stat().st_size for path in toy.WEIGHTS.glob("*.safetensors")) <= 40e6


def test_options_reach_the_model() -> None:
    options = load_model("toy", rounds=1, calibration="off").options
    assert options.rounds == 1 and options.calibration == "off"


def test_random_weights_have_a_name() -> None:
    torch.manual_seed(0)
    named = load_model("toy", weights="random").state_dict()
    torch.manual_seed(0)
    assert all(map(torch.equal, named.values(), load_model("toy", weights=None).state_dict().values()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "sam3"}, "there is no model 'sam3'"),
        ({"name": "sam2-small+resnet"}, "there is no model"),
        ({"fold": 4}, "fold must be one of 0, 1, 2, 3, got 4"),
        ({"name": "sam2-small+dinov2-huge"}, "there is no model"),
        ({"name": "sam2-small+sam2-small"}, "there is no model"),
        ({"weights": "best"}, "weights of the toy model are fssam, baseline, pretrained or random, got 'best'"),
        ({"name": "sam2-small+dinov2-base", "weights": "fssam"}, "see fss_lab.load_authors_checkpoint"),
        ({"name": "sam2-small@v2+dinov2-base", "weights": None}, "leave @v2 out"),
        ({"name": "sam2-small@v2+dinov2-base", "sam2_checkpoint": "sam2.pt"}, "leave @v2 out"),
        ({"sam2_checkpoint": "sam2.pt"}, "brings its own weights"),
        ({"calibration": "on"}, "calibration must be one of"),
    ],
)
def test_unknown_names_say_what_there_is(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_model(**{"name": "toy", **arguments})


def test_a_missing_or_damaged_weight_file_is_named(tmp_path, monkeypatch) -> None:
    for path in toy.WEIGHTS.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr("fss_lab.models.load.WEIGHTS", tmp_path)
    broken = tmp_path / "toy_fold1_fssam.safetensors"
    broken.write_bytes(broken.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="toy_fold1_fssam"):
        load_model("toy", fold=1)
    broken.unlink()
    with pytest.raises(CheckpointError, match="toy_fold1_fssam"):
        load_model("toy", fold=1)
    (tmp_path / "toy_fold1_fssam.safetensors").write_bytes((tmp_path / "toy_features.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="does not hold the trained parameters"):
        load_model("toy", fold=1)


def test_toy_features_take_any_size_and_depend_on_no_neighbour_in_the_batch() -> None:
    features = load_model("toy").features
    images = torch.randint(0, 256, (3, 3, 100, 180), dtype=torch.uint8)
    with torch.no_grad():
        assert features(images).shape == (3, 192, 32, 32)
        torch.testing.assert_close(features(images)[1:2], features(images[1:2]), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_fssam_is_far_better_than_the_support_memory_it_starts_from() -> None:
    """The point of it all, on a handful of episodes of classes it never saw."""
    models = {"fssam": load_model("toy"), "start": load_model("toy", weights="pretrained", memory="support")}
    scores = evaluate(models, Pictograms(0, "novel", episodes=24, seed=11))
    assert scores["fssam"].miou > scores["start"].miou + 0.1


def test_a_support_is_only_for_the_model_that_remembered_it() -> None:
    model, episode = load_model("toy"), Pictograms(0)[0]
    support = model.remember(list(episode.support_images), list(episode.support_masks))
    assert model.variant(calibration="off").segment(episode.query_image, support).mask.any()
    with pytest.raises(ValueError, match="remembered by another model"):
        load_model("toy", fold=1).segment(episode.query_image, support)


def test_results_introduce_themselves_in_a_line() -> None:
    model, episode = load_model("toy"), Pictograms(0)[20]
    prediction = model.segment(episode, trace=True)
    support = model.remember(list(episode.support_images), list(episode.support_masks))
    assert repr(episode) == "Episode('mug', 1 shots, 256 x 256)"
    assert repr(prediction).startswith("Prediction(256 x 256, ") and repr(prediction).endswith("% foreground, traced)")
    assert repr(support) == "Support(1 remembered, 256 x 256)"
    assert repr(prediction.trace) == "Trace(2 layers, 3 rounds, batch of 1)"


def test_half_precision_files_are_used_in_single_precision() -> None:
    model = load_model("toy")
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    batch = collate([Pictograms(0)[0]])
    with torch.no_grad():
        assert model(batch).logits.dtype == torch.float32


@pytest.mark.slow
def test_full_size_pairs_build_with_random_weights() -> None:
    pytest.importorskip("transformers", reason='DINOv2 needs the optional package: pip install "fss-lab[real]"')
    model = load_model("sam2-tiny+dinov2-small", weights=None, image_size=128, rounds=1)
    assert model.sam2.image_size == 128 and model.sam2.channels == 256 and model.options.rounds == 1
    images = torch.randint(0, 256, (2, 3, 60, 90), dtype=torch.uint8)
    mask = torch.zeros(60, 90, dtype=torch.uint8)
    mask[20:40, 30:60] = 1
    assert model.segment(images[0], (images[1], mask)).mask.shape == (60, 90)


@pytest.mark.parametrize(
    ("name", "millions"),  # as Meta's model zoo says
    [("sam2.1-tiny", 38.9), ("sam2-small", 46.0), ("sam2.1-base-plus", 80.8), ("sam2-large", 224.4)],
)
def test_every_size_of_sam2_has_its_published_number_of_parameters(name: str, millions: float) -> None:
    model = Sam2Backbone.build(name, image_size=64)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.slow
def test_local_files_in_metas_formats_make_a_pair(tmp_path) -> None:
    """SAM 2's {"model": ...} and DINOv2's own names, as on Meta's download pages; the weights round-trip."""
    pytest.importorskip("transformers", reason='DINOv2 needs the optional package: pip install "fss-lab[real]"')
    sam2 = {name: t.half() for name, t in Sam2Backbone.build("sam2-tiny", 128).model.state_dict().items()}
    torch.save({"model": sam2}, tmp_path / "sam2_hiera_tiny.pt")
    dinov2 = Path(__file__).parents[1] / "reference" / "dinov2_weights.safetensors"
    with pytest.raises(CheckpointError, match="32 channels"):
        load_model("sam2-tiny+dinov2-small", sam2_checkpoint=tmp_path / "sam2_hiera_tiny.pt",
                   features_checkpoint=dinov2)  # fmt: skip
    model = load_model("sam2-tiny+dinov2-small", weights=None, sam2_checkpoint=tmp_path / "sam2_hiera_tiny.pt",
                       image_size=128)  # fmt: skip
    assert all(torch.equal(t, sam2[name].float()) for name, t in model.sam2.model.state_dict().items())
    with pytest.raises(CheckpointError, match=r"sam2_hiera_tiny\.pt does not fit"):
        load_model("sam2-small+dinov2-small", weights=None, sam2_checkpoint=tmp_path / "sam2_hiera_tiny.pt")


def test_random_toy_weights_are_random() -> None:
    torch.manual_seed(0)
    first, second = load_model("toy", weights=None), load_model("toy", weights=None)
    key = "memory_encoder.out_proj.weight"
    assert not torch.equal(first.sam2.model.state_dict()[key], second.sam2.model.state_dict()[key])
    assert first.options.memory == "pseudo" and not first.training

"""The feature cache: the same numbers with and without it, entries that never mix, damage that does no harm."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fss_lab.backbones import cache as cache_module
from fss_lab.backbones.cache import FeatureCache
from fss_lab.backbones.fingerprint import fingerprint
from fss_lab.backbones.sam2 import Sam2Backbone
from fss_lab.backbones.toy import WEIGHTS, build_toy_sam2
from fss_lab.episode import Episode, collate
from fss_lab.evaluation.scoring import evaluate
from fss_lab.method import FSSAM
from fss_lab.method.records import EpisodeFeatures
from fss_lab.method.trace import map_tensors
from fss_lab.training.losses import dice_loss

SIZE = 64  # pixels


class Patches(nn.Module):
    """Dense features (B, 16, 16, 16) of a small network."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, stride=4)
        self.mix = nn.Conv2d(32, 16, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.mix(F.gelu(self.patches(images / 255 - 0.5)))


def build_model(size: int = SIZE, seed: int = 0, **options: str) -> FSSAM:
    torch.manual_seed(seed)
    return FSSAM(Sam2Backbone.build(WEIGHTS / "toy_sam2.yaml", size), Patches(), **options).requires_grad_(False)


class Repeating:
    """Eight episodes over five images, as the few images of a benchmark come back."""

    classes = (0, 1)

    def __init__(self, shots: int = 1) -> None:
        generator = torch.Generator().manual_seed(1)
        self.images = torch.randint(256, (5, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
        self.masks = torch.zeros(5, SIZE, SIZE, dtype=torch.uint8)
        for number, (image, mask) in enumerate(zip(self.images, self.masks, strict=True)):
            place = (slice(8 * number, 8 * number + 24), slice(10, 40))
            mask[place] = 1
            image[(0, *place)] = 255
        self.shots = shots

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Episode:
        if not 0 <= index < len(self):
            raise IndexError(index)
        query = index % 5
        supports = [(query + 1 + index // 5 + shot) % 5 for shot in range(self.shots)]
        return Episode(
            self.images[query], self.masks[query], self.images[supports], self.masks[supports], index % 2, "?"
        )


@pytest.fixture(scope="module")
def model() -> FSSAM:
    return build_model()


def same(one: EpisodeFeatures, other: EpisodeFeatures) -> bool:
    equal: list[bool] = []

    def compare(a: Tensor, b: Tensor) -> Tensor:
        equal.append(torch.equal(a, b))
        return a

    map_tensors(compare, one, other)
    assert len(equal) >= 10
    return all(equal)


def files_of(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


# ---- the same numbers


@pytest.mark.parametrize("shots", [1, 2])
def test_evaluation_counts_the_same_with_and_without(model: FSSAM, tmp_path: Path, shots: int) -> None:
    episodes = Repeating(shots)
    expected = evaluate({"": model}, episodes, batch_size=3)[""].counts
    assert expected.sum() > 0
    first, second = FeatureCache(), FeatureCache(directory=tmp_path)
    third = FeatureCache(directory=tmp_path)  # finds what the second one wrote
    for cache in (first, first, second, third):
        found = evaluate({"": model}, episodes, batch_size=3, cache=cache)[""].counts
        assert np.array_equal(found, expected)
    images = len(episodes) * (1 + shots)
    assert (first.misses, first.hits) == (5, 2 * images - 5)
    assert (second.misses, second.hits) == (5, images - 5)
    assert (third.misses, third.hits) == (0, images)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_encoded_episodes_are_the_same_to_the_last_bit(model: FSSAM, tmp_path: Path, batch_size: int) -> None:
    """Whatever is encoded beside: other images are missing from the cache than are in the batch."""
    batch = collate([Repeating()[index] for index in range(batch_size)])
    expected = model.extract(batch)
    cache = FeatureCache(directory=tmp_path)
    model.extract(collate([Repeating()[1], Repeating()[3]]), cache)
    assert same(model.extract(batch, cache), expected)
    assert same(model.extract(batch, cache), expected)
    assert same(model.extract(batch, FeatureCache(directory=tmp_path)), expected)
    alone = collate([Repeating()[batch_size - 1]])
    assert same(model.extract(alone), expected[batch_size - 1 : batch_size])


def test_people_can_use_it_too(model: FSSAM) -> None:
    episode, cache = Repeating(2)[0], FeatureCache()
    expected = model.segment(episode)
    assert torch.equal(model.segment(episode, cache=cache).logits, expected.logits)
    assert (cache.misses, cache.hits) == (3, 0)
    support = model.remember(list(episode.support_images), list(episode.support_masks), cache=cache)
    assert torch.equal(model.segment(episode.query_image, support, cache=cache).logits, expected.logits)
    pair = (list(episode.support_images), list(episode.support_masks))
    assert torch.equal(model.segment(episode.query_image, pair, cache=cache).logits, expected.logits)
    assert (cache.misses, cache.hits) == (3, 6)


def test_a_model_without_a_feature_extractor(model: FSSAM) -> None:
    alone = FSSAM(model.sam2, None, memory="support")
    batch, cache = collate([Repeating()[0]]), FeatureCache()
    model.extract(batch, cache)  # entries with more in them, not to be mixed up
    assert same(alone.extract(batch, cache), alone.extract(batch))
    assert cache.misses == 4


def test_nobody_can_spoil_an_entry(model: FSSAM) -> None:
    batch, cache = collate([Repeating()[0]]), FeatureCache()
    expected = model.extract(batch)
    for _ in range(3):
        features = model.extract(batch, cache)
        assert same(features, expected)
        map_tensors(lambda x: x.zero_(), features)


def test_what_an_evaluation_cached_can_be_trained_on(model: FSSAM) -> None:
    trained = build_model().freeze()
    batch, cache = collate([Repeating()[0]]), FeatureCache()
    with torch.inference_mode():
        trained.extract(batch, cache)
    trained.train()
    torch.manual_seed(0)
    dice_loss(trained.predict(trained.encode(batch, cache)).logits, batch.query_masks).backward()
    found = {name: parameter.grad for name, parameter in trained.trainable_parameters()}
    assert cache.misses == 2
    trained.zero_grad()
    torch.manual_seed(0)
    dice_loss(trained.predict(trained.encode(batch)).logits, batch.query_masks).backward()
    for name, parameter in trained.trainable_parameters():
        assert (parameter.grad is None) == (found[name] is None)
        assert parameter.grad is None or torch.equal(parameter.grad, found[name])


# ---- entries never mix


def test_other_images_sizes_precisions_chunks_and_threads_have_entries_of_their_own(model: FSSAM) -> None:
    cache = FeatureCache()
    batch = collate([Repeating()[0]])
    missed = []

    def extract(with_model: FSSAM) -> None:
        before = cache.misses
        assert same(with_model.extract(batch, cache), with_model.extract(batch))
        missed.append(cache.misses - before)

    extract(model)
    extract(model.variant(rounds=0))  # what comes after the encoders does not matter
    extract(build_model(size=96))
    extract(build_model(precision="bfloat16"))
    chunked = model.variant()
    chunked.chunk = 2
    extract(chunked)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        extract(model)
    finally:
        torch.set_num_threads(threads)
    with torch.autocast("cpu", torch.bfloat16):
        extract(model)
    extract(build_model())  # built again, but the same
    assert missed == [2, 0, 2, 2, 2, 2, 2, 0]


def test_a_setting_changed_in_place_is_seen() -> None:
    network, cache = build_toy_sam2().eval(), FeatureCache()
    images = [Repeating()[0].query_image]

    def fetch() -> int:
        cache.fetch(images, [network], {}, torch.device("cpu"), lambda missing: {"x": torch.zeros(len(missing), 1)})
        return cache.misses

    assert (fetch(), fetch()) == (1, 1)
    network.model.image_encoder.scalp += 1
    assert (fetch(), fetch()) == (2, 2)
    network.model.image_encoder.neck.training = True  # a part alone
    with pytest.raises(ValueError, match="a network in training mode"):
        fetch()


def test_images_of_other_type_shape_or_one_other_pixel_are_others(model: FSSAM) -> None:
    episode, cache = Repeating()[0], FeatureCache()
    changed = episode.query_image.clone()
    changed[0, 0, 0] ^= 1
    wide = episode.query_image.reshape(3, SIZE // 2, SIZE * 2)
    for image in (episode.query_image, episode.query_image.float(), changed, wide):
        model.encode_images([image], cache)
    assert (cache.misses, cache.hits) == (4, 0)


@pytest.mark.parametrize(
    ("part", "counts"),
    [
        ("sam2.model.image_encoder.trunk.patch_embed.proj.weight", True),
        ("sam2.model.sam_mask_decoder.conv_s0.bias", True),
        ("features.mix.weight", True),
        ("sam2.model.memory_encoder.out_proj.weight", False),
    ],
)
def test_changed_weights_invalidate(part: str, counts: bool) -> None:
    model, cache = build_model(), FeatureCache()
    batch = collate([Repeating()[0]])
    before = model.extract(batch, cache)
    with torch.no_grad():
        model.get_parameter(part).mul_(1.5)  # as an optimiser does
    after = model.extract(batch, cache)
    assert same(after, model.extract(batch))
    assert same(after, before) is not counts
    assert cache.misses == (4 if counts else 2)


def test_loaded_and_replaced_weights_invalidate() -> None:
    model, other, cache = build_model(), build_model(seed=1), FeatureCache()
    batch = collate([Repeating()[0]])
    model.extract(batch, cache)
    model.load_state_dict(other.state_dict())
    assert same(model.extract(batch, cache), other.extract(batch))
    model.load_state_dict(build_model(seed=2).state_dict(), assign=True)
    assert same(model.extract(batch, cache), build_model(seed=2).extract(batch))
    assert cache.misses == 6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("place", ["cpu", "cuda"])
def test_on_a_gpu_it_does_not_matter_what_a_cache_holds_and_where(place: str) -> None:
    model, data = build_model().to("cuda"), Repeating(2)
    full = FeatureCache(device=place)
    whole = collate([data[0], data[1]])
    expected = model.extract(whole, FeatureCache())
    model.extract(collate([data[0]]), full)
    assert same(model.extract(whole, full), expected)


def test_a_fingerprint_sees_settings_that_no_weight_shows() -> None:
    one, two = nn.MultiheadAttention(8, 2), nn.MultiheadAttention(8, 4)
    two.load_state_dict(one.state_dict())
    assert fingerprint(one) != fingerprint(two)
    assert fingerprint(nn.Sequential(nn.ReLU())) != fingerprint(nn.Sequential(nn.GELU()))


def test_fingerprints_are_computed_once(model: FSSAM, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(cache_module, "fingerprint", lambda network: calls.append(network) or fingerprint(network))
    cache = FeatureCache()
    for index in range(3):
        model.extract(collate([Repeating()[index]]), cache)
    assert len(calls) == 4  # image encoder, conv_s0, conv_s1, feature extractor


def test_networks_in_training_mode_are_refused(model: FSSAM) -> None:
    trained = build_model().train()
    trained.extract(collate([Repeating()[0]]), FeatureCache())  # what is trained here is no encoder
    trained.sam2.model.image_encoder.train()
    with pytest.raises(ValueError, match="training mode"):
        trained.extract(collate([Repeating()[0]]), FeatureCache())


def test_unknown_precision(model: FSSAM) -> None:
    with pytest.raises(ValueError, match="precision must be one of"):
        FSSAM(model.sam2, None, memory="support", precision="float8")


# ---- memory


def test_the_least_recently_used_goes_first(model: FSSAM) -> None:
    images = list(Repeating().images)
    probe = FeatureCache()
    model.encode_images(images[:1], probe)
    cache = FeatureCache(capacity_bytes=int(2.5 * probe.nbytes))
    for image in (images[0], images[1], images[0], images[2]):  # 1 goes, for 0 was used after it
        model.encode_images([image], cache)
    assert (len(cache), cache.nbytes) == (2, 2 * probe.nbytes)
    model.encode_images([images[0]], cache)
    assert cache.misses == 3
    model.encode_images([images[1]], cache)
    assert cache.misses == 4
    assert "2 images" in repr(cache) and "4 misses" in repr(cache)


def test_images_that_do_not_fit_still_come_out_right(model: FSSAM) -> None:
    batch = collate([Repeating()[0], Repeating()[0]])
    cache = FeatureCache(capacity_bytes=1)
    assert same(model.extract(batch, cache), model.extract(batch))
    assert (len(cache), cache.nbytes, cache.misses, cache.hits) == (0, 0, 2, 2)


@pytest.mark.parametrize("capacity", [-1, 0])
def test_capacities_that_make_no_sense(capacity: int) -> None:
    with pytest.raises(ValueError, match="capacity_bytes"):
        FeatureCache(capacity_bytes=capacity)


# ---- the folder


@pytest.mark.parametrize("damage", ["cut short", "empty", "one bit", "another entry", "no file of ours"])
def test_damaged_entries_are_told_and_computed_again(model: FSSAM, tmp_path: Path, damage: str) -> None:
    batch = collate([Repeating()[0]])
    expected = model.extract(batch, FeatureCache(capacity_bytes=0, directory=tmp_path))
    first, second = files_of(tmp_path)
    intact = first.read_bytes()
    changed = {
        "cut short": intact[:-7],
        "empty": b"",
        "one bit": intact[:-100] + bytes([intact[-100] ^ 1]) + intact[-99:],
        "another entry": second.read_bytes(),
        "no file of ours": b"?" * 99,
    }
    first.write_bytes(changed[damage])

    cache = FeatureCache(directory=tmp_path)
    with pytest.warns(UserWarning, match=r"damaged \(.*computed again"):
        assert same(model.extract(batch, cache), expected)
    assert (cache.misses, cache.hits) == (1, 1)
    assert first.read_bytes() == intact
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(model.extract(batch, FeatureCache(directory=tmp_path)), expected)


def test_a_full_disk_stops_nothing(model: FSSAM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, cache = collate([Repeating()[0]]), FeatureCache(directory=tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="cached in memory only") as told:
        assert same(model.extract(batch, cache), model.extract(batch))
    assert len(told) == 1
    model.extract(batch, cache)
    assert (cache.misses, cache.hits) == (2, 2)
    assert files_of(tmp_path) == []


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        FeatureCache(directory=tmp_path / "file")


SCRIPT = """
import sys, torch
torch.set_num_threads(int(sys.argv[3]))
sys.path.insert(0, sys.argv[1])
from test_cache import Repeating, build_model, evaluate, FeatureCache
cache = FeatureCache(capacity_bytes=0, directory=sys.argv[2])
print(evaluate({"": build_model()}, Repeating(), batch_size=2, cache=cache)[""].counts.tolist(), cache.misses)
"""


@pytest.mark.processes
def test_two_processes_share_a_folder(model: FSSAM, tmp_path: Path) -> None:
    expected = evaluate({"": model}, Repeating(), batch_size=2)[""].counts.tolist()
    folder, here, threads = tmp_path / "cache", str(Path(__file__).parent), str(torch.get_num_threads())
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "error::UserWarning:fss_lab", "-c", SCRIPT, here, str(folder), threads]
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert "damaged" not in errors
        assert output.rsplit(" ", 1)[0] == str(expected)
    assert len(files_of(folder)) == 5  # whole entries only, nothing half-written
    cache = FeatureCache(directory=folder)
    assert evaluate({"": model}, Repeating(), batch_size=2, cache=cache)[""].counts.tolist() == expected
    assert cache.misses == 0  # this process finds what the others wrote

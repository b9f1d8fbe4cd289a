"""Photos of one's own, written by the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fss_lab import Folder, load_model, segment_photos
from fss_lab.errors import ImageError
from fss_lab.evaluation.scoring import evaluate
from fss_lab.toyworld.pictograms import Pictograms


def photo(path: Path, width: int = 40, height: int = 30, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(list(path.name.encode())).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def mask(path: Path, width: int = 40, height: int = 30, white: int = 255) -> Path:
    values = np.zeros((height, width), np.uint8)
    values[height // 4 : height // 2, width // 4 : width // 2] = white
    Image.fromarray(values).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three mugs and two shoes, in all the ways that files may be named."""
    root = tmp_path / "photos"
    for name, ending, size in (("IMG_1.JPG", "IMG_1.png", (40, 30)), ("b.webp", "b.PNG", (31, 57))):
        mask(photo(root / "mug" / name, *size).with_name(ending), *size)
    mask(photo(root / "mug" / "c.png").with_name("c_mask.png"), white=1)
    for name in ("x", "y"):
        mask(photo(root / "shoe" / f"{name}.jpeg").with_name(f"{name}_mask.png"))
    (root / "notes.txt").write_text("not a class")
    (root / "shoe" / "notes.txt").write_text("not a photo")
    (root / ".cache").mkdir()
    return root


def test_photos_and_masks_are_found_by_their_names(root: Path) -> None:
    folder = Folder(root)
    assert folder.names == ("mug/IMG_1.JPG", "mug/b.webp", "mug/c.png", "shoe/x.jpeg", "shoe/y.jpeg")
    assert repr(folder) == "Folder(3 mug, 2 shoe)" and len(folder) == 5 and folder.skipped == ()
    assert [p.mask.name for p in folder.photos["mug"]] == ["IMG_1.png", "b.PNG", "c_mask.png"]
    assert folder.classes == (0, 1) and folder.class_name(1) == "shoe" and folder.counts_for("shoe/x.jpeg") == (1,)
    assert folder.check() == []


def test_images_and_labels_have_the_photos_own_size(root: Path) -> None:
    folder = Folder(root)
    assert folder.image("mug/b.webp").shape == (3, 57, 31)
    for name, value in (("mug/b.webp", 1), ("mug/c.png", 1), ("shoe/x.jpeg", 2)):
        label = folder.label(name)
        assert label.unique().tolist() == [0, value] and label.shape == folder.image(name).shape[1:]
    assert torch.equal((folder.label("shoe/x.jpeg") == 2).nonzero().amin(0), torch.tensor([7, 10]))


def test_a_photo_held_sideways_stands_upright_with_its_mask(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    path = photo(tmp_path / "mug" / "a.jpg", exif=exif)
    mask(path.with_name("a.png"), width=30, height=40)
    folder = Folder(tmp_path)
    assert folder.check() == []
    assert folder.label("mug/a.jpg").shape == folder.image("mug/a.jpg").shape[1:] == (40, 30)


def test_episodes_query_every_photo_once(root: Path) -> None:
    episodes = Folder(root).episodes(size=64)
    assert [drawn.query for drawn in episodes.list.episodes] == list(Folder(root).names)
    for index, episode in enumerate(episodes):
        assert episode.query_image.shape == (3, 64, 64) and episode.shots == 1
        assert episode.class_name == ("mug" if index < 3 else "shoe")
        assert episode.query_mask.any() and episode.support_masks.any()
        assert not torch.equal(episode.query_image, episode.support_images[0])
    assert episodes.target(1).shape == (57, 31)
    assert len(Folder(root).episodes(count=12)) == 12


def test_hundreds_of_classes_are_told_apart(tmp_path: Path) -> None:
    """255 is the label of ignored pixels, and more does not go into eight bits."""
    for number in range(300):
        for name in "ab":
            mask(photo(tmp_path / f"{number:03d}" / f"{name}.jpg", 8, 8).with_name(f"{name}.png"), 8, 8)
    folder = Folder(tmp_path)
    episodes = folder.episodes(size=8)
    assert len(folder.classes) == 300 and 254 not in folder.classes and folder.classes[-1] == 300
    for index in (0, 2 * 253, 2 * 254, 599):
        episode = episodes[index]
        assert episode.class_name == f"{index // 2:03d}" and episode.class_id == folder.classes[index // 2]
        assert episode.query_mask.dtype == torch.uint8 and episode.query_mask.unique().tolist() == [0, 1]
        assert torch.equal(episodes.target(index), episode.query_mask)
    assert folder.label("299/a.jpg").unique().tolist() == [0, 301]


def test_other_seeds_choose_other_supports(root: Path) -> None:
    lists = [Folder(root).episodes(count=20, seed=seed).list for seed in (0, 0, 1)]
    assert lists[0].digest == lists[1].digest
    assert [e.supports for e in lists[0].episodes] != [e.supports for e in lists[2].episodes]


def test_more_shots_than_photos_are_refused(root: Path) -> None:
    with pytest.raises(ValueError, match=r"2-shot episodes need 3 images of every class, .* has 2 of 'shoe'"):
        Folder(root).episodes(shots=2)


def test_a_model_is_scored_on_them(root: Path) -> None:
    scores = evaluate({"toy": load_model("toy")}, Folder(root).episodes(size=256))
    assert 0 <= scores["toy"].miou <= 1 and len(scores["toy"].counts) == 5


def test_one_call_for_one_support_and_many_queries(root: Path) -> None:
    model, folder = load_model("toy"), Folder(root)
    episode = Pictograms(0)[0]
    support = folder.photos["mug"][0]
    queries = [folder.photos["shoe"][0].image, str(folder.photos["mug"][1].image), episode.query_image]
    found = segment_photos(model, support.image, support.mask, queries)
    assert [tuple(each.mask.shape) for each in found] == [(30, 40), (57, 31), (256, 256)]
    alone = model.segment(queries[1], (support.image, support.mask))
    assert torch.equal(found[1].logits, alone.logits)
    (single,) = segment_photos(model, support.image, support.mask, queries[2])
    assert torch.equal(single.logits, found[2].logits)
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg does not exist"):
        segment_photos(model, support.image, support.mask, ["gone.jpg"])


def test_what_is_wrong_with_the_names_is_listed_at_once(root: Path) -> None:
    photo(root / "mug" / "lonely.jpg")
    photo(root / "mug" / "alone.png")
    mask(root / "shoe" / "lost_mask.png")
    (root / "shoe" / "IMG_9.HEIC").write_bytes(b"heic")
    (root / "empty").mkdir()
    expected = (
        r"alone\.png has no mask: put alone_mask\.png beside it",
        r"lonely\.jpg has no mask: put lonely\.png beside it",
        r"IMG_9\.HEIC is of a format that cannot be read: save it as JPEG",
        r"lost_mask\.png is a mask without a photo: add lost\.jpg or remove it",
        r"empty has no photo with a mask: add some or remove this class",
    )
    for message in expected:
        with pytest.raises(ValueError, match=message):
            Folder(root)
    folder = Folder(root, skip_bad=True)
    assert len(folder) == 5 and folder.classes == (0, 1) and len(folder.skipped) == len(expected)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: mask(root / "shoe" / "x_mask.png", width=20), r"x_mask\.png has 20 x 30 pixels but its photo x"),
        (lambda root: mask(root / "shoe" / "x_mask.png", white=0), r"x_mask\.png marks no pixel as foreground"),
        (lambda root: mask(root / "shoe" / "x_mask.png", white=7), r"x_mask\.png is a mask with the values 0, 7"),
        (
            lambda root: (root / "shoe" / "x.jpeg").write_bytes((root / "shoe" / "x.jpeg").read_bytes()[:900]),
            r"x\.jpeg cannot be read as an image .*cut short",
        ),
    ],
)
def test_bad_files_are_named_and_can_be_skipped(root: Path, spoil, message: str) -> None:
    spoil(root)
    folder = Folder(root)
    (problem,) = folder.check()
    with pytest.raises(ImageError, match=message):
        folder.image("shoe/x.jpeg")
        folder.label("shoe/x.jpeg")
    skipping = Folder(root, skip_bad=True)
    assert skipping.skipped == (problem,) and "shoe/x.jpeg" not in skipping.names and len(skipping) == 4


def test_what_is_wrong_is_told_in_one_go(root: Path) -> None:
    (root / "shoe" / "x.jpeg").write_bytes((root / "shoe" / "x.jpeg").read_bytes()[:900])
    photo(root / "shoe" / "alone.jpg")
    with pytest.raises(ValueError, match=r"(?s)has 2 problem\(s\).*alone\.jpg.*x\.jpeg cannot be read"):
        Folder(root)


def test_a_folder_without_photos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is no folder"):
        Folder(tmp_path / "gone")
    with pytest.raises(ValueError, match="has no photo with a mask; expected"):
        Folder(tmp_path)
    mask(photo(tmp_path / "mug" / "a.jpg").with_name("a.png"), white=0)
    with pytest.raises(ValueError, match=r"(?s)has no photo with a mask.*a\.png marks no pixel"):
        Folder(tmp_path, skip_bad=True)

"""Photos of one's own, written by the tests."""

from __future__ import annotations

import json
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


def coco(path: Path, *objects: tuple[str, str], width: int = 40, height: int = 30) -> Path:
    """A COCO file whose objects are (photo, class), each a triangle."""
    photos, classes = (list(dict.fromkeys(column)) for column in zip(*objects, strict=True))
    path.write_text(json.dumps({
        "images": [{"id": i, "file_name": name, "height": height, "width": width} for i, name in enumerate(photos)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes)],
        "annotations": [
            {"id": i, "image_id": photos.index(name), "category_id": classes.index(label), "iscrowd": 0,
             "segmentation": [[5 + i, 5, 20, 5, 20, 20]]}
            for i, (name, label) in enumerate(objects)
        ],
    }))  # fmt: skip
    return path


def labelme(path: Path, *labels: str) -> Path:
    shapes = [{"label": label, "points": [[5, 5], [20, 5], [20, 20]], "shape_type": "polygon"} for label in labels]
    path.write_text(json.dumps({"shapes": shapes, "imageHeight": 30, "imageWidth": 40, "imagePath": "../../x"}))
    return path


@pytest.mark.parametrize("masks", ["masks", "Annotations"])
def test_photos_and_masks_in_two_trees(tmp_path: Path, masks: str) -> None:
    for name in ("mug/00.jpg", "mug/01.png", "shoe/00.jpg"):
        target = (tmp_path / masks / name).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        photo(tmp_path / "Images" / name)
        mask(target)
    folder = Folder(tmp_path)
    assert folder.names == ("mug/00.jpg", "mug/01.png", "shoe/00.jpg") and folder.check() == []
    assert folder.label("shoe/00.jpg").unique().tolist() == [0, 2]
    photo(tmp_path / "Images" / "mug" / "02.jpg")
    mask(tmp_path / masks / "mug" / "03.png")
    with pytest.raises(
        ValueError, match=r"(?s)02\.jpg has no mask: put 02\.png into the folder.*03\.png is a mask with"
    ):
        Folder(tmp_path)


@pytest.mark.parametrize("place", ["", "images"])
def test_one_coco_file_beside_a_folder(tmp_path: Path, place: str) -> None:
    for name in "abc":
        photo(tmp_path / place / f"{name}.jpg")
    coco(
        tmp_path / "instances.json",
        ("a.jpg", "dog"),
        ("a.jpg", "cat"),
        ("b.jpg", "dog"),
        ("c.jpg", "cat"),
        ("c.jpg", "cat"),
    )
    folder = Folder(tmp_path)
    assert folder.names == ("cat/a.jpg", "cat/c.jpg", "dog/a.jpg", "dog/b.jpg") and folder.check() == []
    cat, dog = folder.label("cat/a.jpg"), folder.label("dog/a.jpg")
    assert (cat == 1).sum() > 50 and (dog == 2).sum() > 50 and not torch.equal(cat.bool(), dog.bool())
    assert {episode.class_name for episode in folder.episodes(size=32)} == {"cat", "dog"}


def test_a_coco_file_does_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    root, secret = tmp_path / "photos", photo(tmp_path / "secret.jpg")
    for name in "ab":
        photo(root / f"{name}.jpg")
    (root / "link.jpg").symlink_to(secret)
    inside = ("a.jpg", "dog"), ("b.jpg", "dog")
    for name in ("../secret.jpg", str(secret), "link.jpg", "..\\secret.jpg", "sub/../../secret.jpg"):
        coco(root / "instances.json", *inside, (name, "dog"))
        with pytest.raises(ValueError, match="leads out of its folder"):
            Folder(root)
        assert Folder(root, skip_bad=True).names == ("dog/a.jpg", "dog/b.jpg")
    coco(root / "instances.json", *inside, ("gone.jpg", "dog"))
    with pytest.raises(ValueError, match=r"describes gone\.jpg, which is not in"):
        Folder(root)
    coco(root / "more.json", *inside)
    with pytest.raises(ValueError, match=r"several COCO files, .*: keep one"):
        Folder(root)


def test_a_linked_folder_of_photos_is_followed(tmp_path: Path) -> None:
    for name in "ab":
        photo(tmp_path / "disk" / f"{name}.jpg")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "val2017").symlink_to(tmp_path / "disk")
    coco(tmp_path / "set" / "instances.json", ("a.jpg", "dog"), ("b.jpg", "dog"))
    assert Folder(tmp_path / "set").check() == []


def test_masks_of_annotation_tools_beside_the_photos(tmp_path: Path) -> None:
    labelme(photo(tmp_path / "mug" / "a.jpg").with_name("a.json"), "mug", "table")
    labelme(photo(tmp_path / "mug" / "b.jpg").with_name("b.jpg.json"), "thing")
    photo(tmp_path / "mug" / "c.jpg").with_name("c.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    np.save(photo(tmp_path / "mug" / "d.jpg").with_name("d.npy"), np.eye(30, 40, dtype=bool))
    (tmp_path / "mug" / "notes.txt").write_text("not a mask")
    folder = Folder(tmp_path)
    assert len(folder) == 4 and folder.check() == []
    assert (folder.label("mug/a.jpg") == 1).sum() == (folder.label("mug/b.jpg") == 1).sum() > 50
    problems = Folder(tmp_path, foreground="mug", skip_bad=True).skipped
    for message in ("b.jpg.json has no class 'mug'; it has thing", "c.txt has no class", "d.npy is a mask of pixels"):
        assert any(message in problem for problem in problems)


def test_masks_are_read_as_one_says(tmp_path: Path) -> None:
    for name, white in (("a.jpg", 7), ("b.jpg", 7)):
        mask(photo(tmp_path / "mug" / name).with_suffix(".png"), white=white)
    assert len(Folder(tmp_path).check()) == 2
    assert Folder(tmp_path, foreground=7).check() == [] and Folder(tmp_path, threshold=6).check() == []
    assert (
        Folder(tmp_path, threshold=6).label("mug/a.jpg").sum()
        == Folder(tmp_path, foreground=7).label("mug/b.jpg").sum()
    )


def test_a_mask_saved_as_jpeg_is_recognised_by_its_name(tmp_path: Path) -> None:
    for name in "ab":
        mask(photo(tmp_path / "mug" / f"{name}.jpg").with_name(f"{name}_mask.jpg"))
    photo(tmp_path / "mug" / "gas_mask.jpg")  # a photo of one
    mask(tmp_path / "mug" / "gas_mask.png")
    folder = Folder(tmp_path)
    assert folder.names == ("mug/a.jpg", "mug/b.jpg", "mug/gas_mask.jpg")
    assert all("threshold=127" in problem for problem in folder.check()) and len(folder.check()) <= 2
    assert Folder(tmp_path, threshold=127).check() == []


@pytest.mark.parametrize("suffix", [".jfif", ".avif"])
def test_photos_of_further_formats(tmp_path: Path, suffix: str) -> None:
    if suffix not in Image.registered_extensions():
        pytest.skip("this Pillow cannot read it")
    path = photo(tmp_path / "mug" / f"a{suffix}")
    mask(path.with_name("a.png"))
    assert Folder(tmp_path).names == (f"mug/a{suffix}",)


def test_a_turned_photo_with_a_mask_that_may_not_be_is_pointed_out(tmp_path: Path) -> None:
    upside_down, sideways = Image.Exif(), Image.Exif()
    upside_down[0x0112], sideways[0x0112] = 3, 6
    for name, tags in (("a", upside_down), ("b", sideways)):
        mask(photo(tmp_path / "mug" / f"{name}.jpg", exif=tags).with_name(f"{name}.png"))
    wrong, doubt = Folder(tmp_path).check()
    assert "b.png has 40 x 30 pixels but its photo b.jpg has 30 x 40 once EXIF has turned it" in wrong
    assert "a.jpg is stored turned (EXIF orientation 3)" in doubt and "a.png has no orientation" in doubt
    assert Folder(tmp_path, skip_bad=True).names == ("mug/a.jpg",)  # a doubt is no error


def test_two_photos_of_one_name_are_refused(tmp_path: Path) -> None:
    for part in ("train", "val"):
        photo(tmp_path / part / "a.jpg")
    coco(tmp_path / "instances.json", ("train/a.jpg", "dog"), ("val/a.jpg", "dog"))
    with pytest.raises(ValueError, match=r"several photos called dog/a\.jpg: rename them"):
        Folder(tmp_path)

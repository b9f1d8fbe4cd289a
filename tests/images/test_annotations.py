"""The files of annotation tools, as these write them."""

from __future__ import annotations

import base64
import io
import json
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as masks

from fss_lab.errors import ImageError
from fss_lab.images import load_mask
from fss_lab.images.annotations import check_shown

SQUARE = [[10, 5], [29, 5], [29, 19], [10, 19]]
HEIGHT, WIDTH = 30, 40


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.jpg")
    return tmp_path / "a.jpg"


def png(mask: np.ndarray, mode: str = "1") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def labelme(*shapes: dict[str, Any], size: tuple[int, int] = (HEIGHT, WIDTH)) -> str:
    shapes = tuple({"label": "dog", "shape_type": "polygon", "group_id": None, "flags": {}} | shape for shape in shapes)
    return json.dumps({
        "version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": "/etc/passwd", "imageData": None,
        "imageHeight": size[0], "imageWidth": size[1],
    })  # fmt: skip


def coco(*annotations: dict[str, Any], names: tuple[str, ...] = ("a.jpg",)) -> str:
    return json.dumps({
        "images": [{"id": i, "file_name": name, "height": HEIGHT, "width": WIDTH} for i, name in enumerate(names)],
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [{"image_id": 0, "category_id": 18, "iscrowd": 0} | annotation for annotation in annotations],
    })  # fmt: skip


def supervisely(*objects: dict[str, Any]) -> str:
    objects = tuple({"classTitle": "dog", "geometryType": "polygon"} | thing for thing in objects)
    return json.dumps({"size": {"height": HEIGHT, "width": WIDTH}, "tags": [], "objects": objects})


def cvat(*shapes: str, more: str = "", name: str = "a.jpg") -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task><labels><label>'
        f"<name>dog</name></label><label><name>cat</name></label></labels></task></meta>{more}"
        f'<image id="0" name="{name}" width="{WIDTH}" height="{HEIGHT}">{"".join(shapes)}</image></annotations>'
    )


def yolo(*objects: tuple[int, list[list[float]]]) -> str:
    return "".join(f"{n} {' '.join(f'{x / WIDTH:.6f} {y / HEIGHT:.6f}' for x, y in points)}\n" for n, points in objects)


def written(tmp_path: Path, name: str, text: str) -> Path:
    (tmp_path / name).write_text(text)
    return tmp_path / name


FLAT = [value for point in SQUARE for value in point]
POINTS = ";".join(f"{x},{y}" for x, y in SQUARE)
FULL = np.zeros((HEIGHT, WIDTH), bool)
FULL[5:20, 10:30] = True
RUNS = [int(n) for n in np.diff(np.flatnonzero(np.diff(np.r_[2, FULL.ravel("F"), 2])))]
CODE = masks.encode(np.asfortranarray(FULL.astype(np.uint8)))
STAMP = FULL[5:20, 10:30]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", labelme({"points": SQUARE})),
        ("a.json", labelme({"points": [SQUARE[0], SQUARE[2]], "shape_type": "rectangle"})),
        ("a.json", labelme({"points": [SQUARE[2], SQUARE[0]], "shape_type": "rectangle"})),
        ("a.json", labelme({"points": SQUARE, "shape_type": "rectangle"})),
        ("a.json", labelme({"points": SQUARE, "shape_type": "rotation"})),
        (
            "a.json",
            labelme(
                {"points": [[10, 5], [29, 19]], "shape_type": "mask", "mask": base64.b64encode(png(STAMP)).decode()}
            ),
        ),
        ("a.json", supervisely({"points": {"exterior": SQUARE, "interior": []}})),
        (
            "a.json",
            supervisely({"points": {"exterior": [SQUARE[0], SQUARE[2]], "interior": []}, "geometryType": "rectangle"}),
        ),
        (
            "a.json",
            supervisely(
                {
                    "bitmap": {"data": base64.b64encode(zlib.compress(png(STAMP))).decode(), "origin": [10, 5]},
                    "geometryType": "bitmap",
                }
            ),
        ),
        ("a.xml", cvat(f'<polygon label="dog" occluded="0" points="{POINTS}" z_order="0"/>')),
        ("a.xml", cvat('<box label="dog" xtl="10" ytl="5" xbr="29" ybr="19"/>')),
        ("a.xml", cvat('<mask label="dog" rle="0, 300" left="10" top="5" width="20" height="15"/>')),
        ("a.txt", yolo((0, SQUARE))),
        ("a.json", coco({"segmentation": {"size": [HEIGHT, WIDTH], "counts": RUNS}, "iscrowd": 1})),
        ("a.json", coco({"segmentation": {"size": [HEIGHT, WIDTH], "counts": CODE["counts"].decode()}})),
        ("a.json", coco({"segmentation": [[10, 5, 30, 5, 30, 20, 10, 20]]})),  # COCO counts from the pixels' corners
    ],
)
def test_one_square_in_every_format(photo: Path, name: str, text: str) -> None:
    path = written(photo.parent, name, text)
    label = 0 if name == "a.txt" else "dog"
    for options in ({}, {"photo": photo}, {"photo": photo, "foreground": label}):
        assert np.array_equal(load_mask(path, **options).numpy(), FULL)
    with pytest.raises(ImageError, match=r"has no class 'horse'; it has"):
        load_mask(path, foreground="horse")


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.json", labelme()), ("a.json", supervisely()), ("a.xml", cvat()), ("a.txt", "\n"), ("a.json", coco())],
)
def test_no_object_is_an_empty_mask(photo: Path, name: str, text: str) -> None:
    mask = load_mask(written(photo.parent, name, text))
    assert mask.shape == (HEIGHT, WIDTH) and not mask.any()


def test_several_classes_need_a_choice(photo: Path) -> None:
    other = [[0, 0], [5, 0], [5, 4]]
    for name, text, labels in (
        ("a.json", labelme({"points": SQUARE}, {"points": other, "label": "cat"}), ("dog", "cat")),
        ("a.txt", yolo((0, SQUARE), (7, other)), (0, 7)),
        (
            "a.json",
            coco({"segmentation": [FLAT]}, {"segmentation": [[0, 0, 5, 0, 5, 4]], "category_id": 3}),
            (18, "cat"),
        ),
    ):
        path = written(photo.parent, name, text)
        with pytest.raises(ImageError, match=r"objects of several classes: .*foreground="):
            load_mask(path)
        first, second = (load_mask(path, foreground=label).numpy() for label in labels)
        assert first[10, 20] and not first[0, 4] and second[1, 4] and not second[10, 20]


def test_holes(photo: Path) -> None:
    hole = [[15, 9], [22, 9], [22, 14], [15, 14]]
    ring = FULL.copy()
    ring[10:14, 16:22] = False
    path = written(photo.parent, "a.json", supervisely({"points": {"exterior": SQUARE, "interior": [hole]}}))
    assert np.array_equal(load_mask(path).numpy(), ring)  # the hole's outline belongs to the object
    both = supervisely(
        {"points": {"exterior": hole, "interior": []}}, {"points": {"exterior": SQUARE, "interior": [hole]}}
    )
    assert np.array_equal(load_mask(written(photo.parent, "a.json", both)).numpy(), FULL)  # a hole takes from its own
    code = masks.encode(np.asfortranarray(ring.astype(np.uint8)))
    text = coco({"segmentation": {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode()}})
    assert np.array_equal(load_mask(written(photo.parent, "a.json", text)).numpy(), ring)


@pytest.mark.parametrize("name", ["labelme", "yolo", "cvat", "coco"])
def test_outlines_that_cross_themselves_or_the_border(photo: Path, name: str) -> None:
    def load(points: list[list[float]]) -> np.ndarray:
        text = {
            "labelme": lambda: labelme({"points": points}), "yolo": lambda: yolo((0, points)),
            "cvat": lambda: cvat(f'<polygon label="dog" points="{";".join(f"{x},{y}" for x, y in points)}"/>'),
            "coco": lambda: coco({"segmentation": [[v for point in points for v in point]]}),
        }[name]()  # fmt: skip
        path = written(photo.parent, {"yolo": "a.txt", "cvat": "a.xml"}.get(name, "a.json"), text)
        return load_mask(path, photo=photo).numpy()

    bow = load([[5, 5], [35, 25], [35, 5], [5, 25]])
    assert bow[15, 8] and bow[15, 32] and not bow[8, 20] and not bow[22, 20]
    twice = load([[5, 3], [35, 3], [35, 27], [5, 27], [5, 3], [12, 9], [28, 9], [28, 21], [12, 21], [12, 9]])
    assert twice[5, 8] and not twice[15, 20]  # surrounded twice
    outside = load([[20, -10], [60, -10], [60, 40], [20, 40]])
    assert outside[:, 22:].all() and not outside[:, :19].any()
    assert not load([[45, 5], [60, 5], [60, 20]])[:, :38].any()
    with pytest.raises(ImageError, match=r"far outside of 40 x 30 pixels|coordinates beyond 0\.\.1"):
        load([[10, 5], [4000, 5], [10, 3000]])
    with pytest.raises(ImageError, match="outline has 2 points|is a box"):
        load([[10, 5], [20, 5]])


@given(st.lists(st.tuples(st.floats(-39, 79), st.floats(-29, 59)), min_size=3, max_size=12))
@settings(max_examples=100, deadline=None)
def test_any_outline_gives_the_pixels_that_the_even_odd_rule_gives(tmp_path_factory: Any, points: list) -> None:
    path = written(tmp_path_factory.mktemp("a"), "a.json", labelme({"points": points}))
    mask = load_mask(path).numpy().astype(bool)
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    inside, near = np.zeros_like(mask), np.zeros_like(mask)
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        with np.errstate(all="ignore"):
            inside ^= ((y0 > ys) != (y1 > ys)) & (xs < (x1 - x0) * (ys - y0) / (y1 - y0) + x0)
        along = np.clip(
            ((xs - x0) * (x1 - x0) + (ys - y0) * (y1 - y0)) / max((x1 - x0) ** 2 + (y1 - y0) ** 2, 1e-9), 0, 1
        )
        near |= np.hypot(xs - x0 - along * (x1 - x0), ys - y0 - along * (y1 - y0)) < 1.75  # corners are rounded
    assert (mask == inside)[~near].all()


def test_ten_thousand_polygons(photo: Path) -> None:
    points = np.random.default_rng(0).uniform(0, 25, (10_000, 4, 2)).round(1).tolist()
    start = time.perf_counter()
    for text in (labelme(*({"points": p} for p in points)), coco(*({"segmentation": [sum(p, [])]} for p in points))):
        assert load_mask(written(photo.parent, "a.json", text))[:24, :24].float().mean() > 0.9
    assert time.perf_counter() - start < 60


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "cannot be read as annotations .*expected COCO, LabelMe"),
        ("a.json", '{"a": 1}', "KeyError: 'size'"),
        ("a.json", "[1]", "cannot be read as annotations"),
        ("a.json", "[" * 100_000, "cannot be read as annotations"),
        (
            "a.json",
            labelme({"points": SQUARE, "shape_type": "linestrip"}),
            "class 'dog' has no usable area: it is a linestrip",
        ),
        ("a.json", labelme({"points": [[1, float("nan")], [2, 2], [3, 1]]}), r"not a number \(NaN\)"),
        ("a.json", labelme({"points": [[1, 999], [2, 2], [3, 1]]}), "far outside"),
        ("a.json", labelme({"points": SQUARE}, size=(10**6, 10**6)), "1000000 x 1000000 pixels, more than"),
        ("a.json", labelme({"points": [[1, 1]], "shape_type": "mask", "mask": "AAAA"}), "cannot be read"),
        ("a.json", coco({"segmentation": [], "bbox": [1, 2, 3, 4]}), "has a box at most and no outline"),
        ("a.json", coco({"segmentation": {"size": [3, 4], "counts": [12]}}), "not those of 40 x 30 pixels"),
        ("a.json", coco({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [5]}}), "not those of 40 x 30 pixels"),
        (
            "a.json",
            coco({"segmentation": [FLAT], "category_id": 5, "id": 7}),
            r"annotation 1 \(id 7\), of a.jpg, has the category_id 5",
        ),
        ("a.json", coco({}).replace('"category_id": 18, ', ""), r"annotation 1 \(id None\) has no category_id"),
        ("a.txt", "0 0.1 0.2 nan 0.4 0.5 0.6\n", r"line 1 has a coordinate that is not a number"),
        ("a.json", coco(names=("a.jpg", "a.jpg")), "several photos named a.jpg"),
        ("a.txt", "0 0.1 0.2 0.3 0.4\n", "class '0' has no usable area: it is a box"),
        ("a.txt", "0 10 20 30 40 50 60\n", "beyond 0..1, as if they were pixels"),
        ("a.txt", "notes\n", "line 1 is no `class x y"),
        ("a.xml", "<a", "cannot be read as annotations .ParseError"),
        ("a.xml", "<html/>", "its root is <html>"),
        ("a.xml", cvat(more='<track label="dog"/>'), "tracks of a video"),
        ("a.xml", cvat('<polyline label="dog" points="1,2;3,4"/>'), "is a polyline, without area"),
        ("a.xml", cvat('<mask label="dog" rle="3, 4" left="1" top="1" width="5" height="5"/>'), "sum up to 7 pixels"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations>&x;</annotations>', "entities"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY x "aaaa"><!ENTITY y "&x;&x;">]><annotations>&y;</annotations>', "entities"),
    ],
)
def test_files_that_cannot_be_understood(photo: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ImageError, match=rf"{name}.*{message}"):
        load_mask(written(photo.parent, name, text))


def test_annotations_of_images_that_the_file_leaves_out_are_ignored(photo: Path) -> None:
    other = {"segmentation": [[0, 0, 9, 0, 9, 9]], "image_id": 72, "category_id": 5}
    path = written(photo.parent, "a.json", coco({"segmentation": [FLAT]}, other))
    assert load_mask(path).equal(load_mask(written(photo.parent, "b.json", coco({"segmentation": [FLAT]}))))


def test_a_class_that_the_photo_lacks_is_named_with_those_it_has(photo: Path) -> None:
    path = written(photo.parent, "a.json", coco({"segmentation": [FLAT]}))
    check_shown(path, "dog", photo)
    check_shown(path, None, photo)
    check_shown(np.zeros((2, 2)), "cat", photo)
    with pytest.raises(ImageError, match=r"a\.json shows no 'cat' in a\.jpg; it has dog there"):
        check_shown(path, "cat", photo)


def test_entities_in_another_encoding_are_refused_too(photo: Path) -> None:
    text = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY x "y">]><annotations/>'
    (photo.parent / "a.xml").write_bytes(text.encode("utf-16"))
    with pytest.raises(ImageError, match="cannot be read as annotations"):
        load_mask(photo.parent / "a.xml")


def test_the_photo_is_chosen_by_its_name(photo: Path) -> None:
    path = written(photo.parent, "a.json", coco({"segmentation": [FLAT]}, names=("sub/a.jpg", "b.jpg", "other/a.jpg")))
    with pytest.raises(ImageError, match="describes 3 photos; say which, e.g. photo='sub/a.jpg'"):
        load_mask(path)
    with pytest.raises(ImageError, match="describes 2 photos named a.jpg"):
        load_mask(path, photo=photo)  # neither in sub nor in other
    for folder, there in (("sub", True), ("other", False)):
        (photo.parent / folder).mkdir()
        copy = photo.parent / folder / "a.jpg"
        copy.write_bytes(photo.read_bytes())
        assert load_mask(path, photo=copy).any() == there
    with pytest.raises(ImageError, match="describes 0 photos named c.jpg; it has sub/a.jpg, b.jpg"):
        load_mask(path, photo=photo.with_name("c.jpg"))


def test_annotations_of_another_size_are_refused(photo: Path) -> None:
    path = written(photo.parent, "a.json", labelme({"points": SQUARE}, size=(60, 80)))
    with pytest.raises(ImageError, match="is for a photo of 80 x 60 pixels, but .*a.jpg has 40 x 30"):
        load_mask(path, photo=photo)


def test_a_yolo_file_finds_its_photo(photo: Path) -> None:
    labels, images = photo.parent / "labels", photo.parent / "images"
    labels.mkdir()
    path = written(labels, "a.txt", yolo((3, SQUARE)))
    with pytest.raises(ImageError, match="relative coordinates; give the photo"):
        load_mask(path)
    images.mkdir()
    photo.rename(images / "a.jpg")
    assert np.array_equal(load_mask(path).numpy(), FULL)

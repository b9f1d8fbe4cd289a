"""Masks from the files of annotation tools. Suffix and content decide which tool wrote a file.

- COCO JSON: polygons and run lengths, read by pycocotools, whose pixels are the benchmark's. Crowd regions count too.
- LabelMe JSON: polygon, rectangle, circle, mask. Supervisely JSON: polygon (with holes), rectangle, bitmap.
- CVAT XML for images: polygon, box, ellipse, mask. YOLO text: polygons in 0..1.

The last four are small formats whose maintained readers come with OpenCV or a whole tool, so they are read here; Pillow
paints the outlines, as LabelMe does. Objects may overlap: each counts whole. An outline that crosses itself has a hole
where it surrounds a point twice; what reaches beyond the photo is cut off. A file without objects gives an empty mask.
Points and lines have no area and are refused. Nothing that a file names is opened; entities in XML are refused.
"""

from __future__ import annotations

import base64
import glob
import io
import json
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageDraw

from fss_lab.errors import ImageError, needs
from fss_lab.images.sources import ANNOTATIONS, DECODING_ERRORS, existing, upright_size

Paint = Callable[[Image.Image], None]
"""Paints an object with 1 on an image of mode L."""
Areas = list[tuple[tuple[str, ...], Paint | str]]
"""Class names of objects, and what paints each or says why it has no area."""
_UNREADABLE = (*DECODING_ERRORS, TypeError, AttributeError, ArithmeticError, RecursionError)


@dataclass
class Annotated:
    """A photo of an annotation file. name: as the file gives it, "" if it does not. size: (height, width), None where
    coordinates are relative."""

    name: str
    size: tuple[int, int] | None
    objects: Areas = field(default_factory=list)


def annotated_mask(source: str | os.PathLike[str], foreground: int | str | None, photo: Path | None) -> np.ndarray:
    """uint8 (H, W) with 0 and 1: all objects of the class `foreground`, or of the only class in the file.

    Raises ImageError for a file that cannot be read, describes another photo or size, has several classes or lacks this
    one; MissingPackageError for COCO's annotations without pycocotools.
    """
    path, annotated = Path(source), _choose(source, photo)
    height, width = size = annotated.size or _size_of(photo or _beside(path))
    if photo is not None and size != (real := _size_of(photo)):
        raise ImageError(
            f"{path} is for a photo of {width} x {height} pixels, but {photo} has {real[1]} x {real[0]} (upright, as "
            "EXIF says); annotate this photo at its own size"
        )
    names = sorted({names[0] for names, _ in annotated.objects})
    known = read_annotations(path)[1] | {name for names, _ in annotated.objects for name in names}
    if foreground is None and len(names) > 1:
        raise ImageError(
            f"{path} has objects of several classes: {_some(names)}. Say which: foreground={names[0]!r}, "
            f"on the command line --foreground {names[0]}"
        )
    if foreground is not None and known and str(foreground) not in known:
        raise ImageError(f"{path} has no class {foreground!r}; it has {_some(sorted(known))}")
    if height * width > (limit := Image.MAX_IMAGE_PIXELS or 2**31):
        raise ImageError(f"{path} is for a photo of {width} x {height} pixels, more than {limit}; reduce it")
    canvas = Image.new("L", (width, height))
    for labels, paint in annotated.objects:
        if foreground is None or str(foreground) in labels:
            try:
                if isinstance(paint, str):
                    raise ValueError(f"it {paint}; draw an outline around it")
                paint(canvas)
            except _UNREADABLE as error:
                raise ImageError(f"{path}: an object of the class {labels[0]!r} has no usable area: {error}") from error
    return np.array(canvas)


def annotated_classes(path: Path, photo: Path) -> set[str]:
    """The classes of the objects on a photo, by name and number. Raises ImageError for a photo that the file lacks."""
    return {name for names, _ in _choose(path, photo).objects for name in names}


def check_shown(source: Any, foreground: int | str | None, photo: Any) -> None:
    """Raises ImageError for an annotation file that has objects on a photo, but none of the class `foreground`."""
    if foreground is None or not all(isinstance(place, str | os.PathLike) for place in (source, photo)):
        return
    path, photo = Path(source), Path(photo)
    objects = _choose(path, photo).objects if path.suffix.lower() in ANNOTATIONS else []
    if objects and not any(str(foreground) in labels for labels, _ in objects):
        names = _some(sorted({labels[0] for labels, _ in objects}))
        raise ImageError(f"{path} shows no {str(foreground)!r} in {photo.name}; it has {names} there")


def read_annotations(path: str | os.PathLike[str]) -> tuple[dict[str, Annotated], set[str]]:
    """The photos of a file by their names, and the classes that it declares. Raises ImageError for another file."""
    path = existing(path)
    return _read(path.resolve(), path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> tuple[dict[str, Annotated], set[str]]:
    try:
        content = path.read_text(encoding="utf-8-sig")
        photos, classes = {".txt": _yolo, ".xml": _cvat}.get(path.suffix.lower(), _json)(content)
        names = [photo.name for photo in photos]
        if len(set(names)) < len(names):
            raise ValueError(f"several photos named {max(names, key=names.count)}")
        return dict(zip(names, photos, strict=True)), classes
    except (*_UNREADABLE, ElementTree.ParseError) as error:
        raise ImageError(
            f"{path} cannot be read as annotations ({type(error).__name__}: {error}); expected COCO, LabelMe or "
            "Supervisely JSON, CVAT XML for images, or YOLO polygons"
        ) from error


def _choose(path: str | os.PathLike[str], photo: Path | None) -> Annotated:
    photos = read_annotations(path)[0]
    if "" in photos or (photo is None and len(photos) == 1):
        return next(iter(photos.values()))
    if photo is None:
        raise ImageError(
            f"{path} describes {len(photos)} photos; say which, e.g. photo={next(iter(photos), 'a.jpg')!r}"
        )
    where = {name: "/" + name.replace("\\", "/") for name in photos}
    whole = [name for name in photos if photo.absolute().as_posix().endswith(where[name])]
    matching = whole or [name for name in photos if where[name].endswith(f"/{photo.name}")]
    if len(matching) != 1:
        raise ImageError(f"{path} describes {len(matching)} photos named {photo.name}; it has {_some(list(photos))}")
    return photos[matching[0]]


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _size_of(photo: Path) -> tuple[int, int]:
    try:
        with Image.open(existing(photo)) as image:
            return upright_size(image)
    except DECODING_ERRORS as error:
        raise ImageError(f"{photo}, the photo of the annotations, cannot be read ({error})") from error


def _beside(path: Path) -> Path:
    """The photo of a YOLO file: of its name, beside it or in the folder `images` beside its own folder."""
    for folder in (path.parent, path.parent.parent / "images"):
        for candidate in sorted(folder.glob(f"{glob.escape(path.stem)}.*")):
            if candidate.suffix.lower() in Image.registered_extensions():
                return candidate
    raise ImageError(f"{path} has relative coordinates; give the photo they belong to: load_mask(..., photo=path)")


# -- painting --


def _polygon(*outlines: Any, relative: bool = False) -> Paint:
    """The first outline, (N, 2) of x and y, without the others, its holes."""
    rings = [np.array(outline, np.float64).reshape(-1, 2) for outline in outlines]

    def paint(canvas: Image.Image) -> None:
        target = Image.new("L", canvas.size) if len(rings) > 1 else canvas
        for number, ring in enumerate(rings):
            scaled = (ring * canvas.size if relative else ring).round(2)
            _check(scaled, canvas.size)
            ImageDraw.Draw(target).polygon(scaled.ravel().tolist(), fill=int(not number), outline=1)
        if target is not canvas:
            canvas.paste(1, mask=target.point(lambda value: 255 * value))

    return paint


def _check(ring: np.ndarray, size: tuple[int, int]) -> None:
    """Raises ValueError for an outline of fewer than three points or one that can only be another photo's."""
    if len(ring) < 3:
        raise ValueError(f"an outline has {len(ring)} points, expected three or more")
    if np.isnan(ring).any():
        raise ValueError("its outline has a coordinate that is not a number (NaN)")
    if not ((ring >= -np.array(size)) & (ring <= 2 * np.array(size))).all():
        raise ValueError(f"its outline reaches far outside of {size[0]} x {size[1]} pixels")


def _around(x: float, y: float, offsets: Any, degrees: float = 0.0) -> Paint:
    """offsets: (N, 2) from the centre (x, y), to be turned clockwise."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return _polygon(np.array(offsets) @ [[c, s], [-s, c]] + (x, y))


def _ellipse(x: float, y: float, rx: float, ry: float, degrees: float = 0.0) -> Paint:
    angles = np.linspace(0, 2 * np.pi, 180)
    return _around(x, y, np.stack([rx * np.cos(angles), ry * np.sin(angles)], axis=1), degrees)


def _box(x0: float, y0: float, x1: float, y1: float, degrees: float = 0.0) -> Paint:
    w, h = (x1 - x0) / 2, (y1 - y0) / 2
    return _around(x0 + w, y0 + h, [(-w, -h), (w, -h), (w, h), (-w, h)], degrees)


def _bitmap(mask: np.ndarray, left: float, top: float) -> Paint:
    """mask: (h, w) bool, whose first pixel lies at (left, top)."""
    stamp = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    return lambda canvas: canvas.paste(1, (round(left), round(top)), stamp)


def _png(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        clear = "A" in image.getbands() or "transparency" in image.info
        return np.array(image.convert("RGBA"))[..., 3] > 0 if clear else np.array(image.convert("L")) > 0


# -- formats --

Content = tuple[list[Annotated], set[str]]


def _json(text: str) -> Content:
    content = json.loads(text)
    if "annotations" in content and "images" in content:
        return _coco(content)
    if "shapes" in content:
        size, objects = (content["imageHeight"], content["imageWidth"]), content["shapes"]
        areas: Areas = [((str(shape["label"]),), _labelme(shape)) for shape in objects]
    else:
        size, objects = (content["size"]["height"], content["size"]["width"]), content["objects"]
        areas = [((str(thing["classTitle"]),), _supervisely(thing)) for thing in objects]
    return [Annotated("", (int(size[0]), int(size[1])), areas)], set()


def _coco(content: dict[str, Any]) -> Content:
    categories = {category["id"]: (str(category["name"]), str(category["id"])) for category in content["categories"]}
    photos = {
        image["id"]: Annotated(str(image["file_name"]), (int(image["height"]), int(image["width"])))
        for image in content["images"]
    }
    for number, annotation in enumerate(content["annotations"], 1):
        which = f"annotation {number} (id {annotation.get('id')})"
        if lacking := [key for key in ("image_id", "category_id") if key not in annotation]:
            raise ValueError(f"{which} has no {' and no '.join(lacking)}")
        photo, category = photos.get(annotation["image_id"]), annotation["category_id"]
        if photo is None:  # of an image that this part of a data set leaves out
            continue
        if category not in categories:
            raise ValueError(f"{which}, of {photo.name}, has the category_id {category}, which no category has")
        photo.objects.append((categories[category], _coco_region(annotation.get("segmentation"))))
    return list(photos.values()), {name for names in categories.values() for name in names}


def _coco_region(region: Any) -> Paint | str:
    def paint(canvas: Image.Image) -> None:
        with needs("a mask in COCO's format", "real"):
            from pycocotools import mask as masks
        width, height = canvas.size
        if isinstance(region, list):
            for polygon in region:
                _check(np.array(polygon, np.float64).reshape(-1, 2), canvas.size)
            code = masks.merge(masks.frPyObjects(region, height, width))
        else:
            counts = region["counts"]
            if region["size"] != [height, width] or (isinstance(counts, list) and sum(counts) != height * width):
                raise ValueError(f"its run lengths are not those of {width} x {height} pixels")
            code = masks.frPyObjects(region, height, width) if isinstance(counts, list) else region
        canvas.paste(1, mask=Image.fromarray(masks.decode(code) * np.uint8(255)))

    return paint if region else "has a box at most and no outline"


def _labelme(shape: dict[str, Any]) -> Paint | str:
    kind, points = shape.get("shape_type", "polygon"), shape["points"]
    if kind in ("polygon", "rotation"):
        return _polygon(points)
    if kind == "rectangle":  # two corners, or all four
        return _box(*np.min(points, axis=0), *np.max(points, axis=0))
    if kind == "circle":
        return _ellipse(*points[0], *[float(np.hypot(*np.subtract(*points)))] * 2)
    return (
        _bitmap(_png(base64.b64decode(shape["mask"])), *points[0]) if kind == "mask" else f"is a {kind}, without area"
    )


def _supervisely(thing: dict[str, Any]) -> Paint | str:
    kind = thing["geometryType"]
    if kind == "bitmap":
        packed = base64.b64decode(thing["bitmap"]["data"])
        return _bitmap(_png(zlib.decompressobj().decompress(packed, 2**28)), *thing["bitmap"]["origin"])  # no bombs
    outline, holes = thing["points"]["exterior"], thing["points"]["interior"]
    if kind == "polygon":
        return _polygon(outline, *holes)
    return _box(*outline[0], *outline[1]) if kind == "rectangle" else f"is a {kind}, without area"


def _cvat(text: str) -> Content:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # these can fill the memory; CVAT writes none
        raise ValueError("it declares entities")
    root = ElementTree.fromstring(text.encode())
    if root.tag != "annotations" or root.find("track") is not None:
        raise ValueError(f"its root is <{root.tag}>, or it has the tracks of a video")
    photos = []
    for image in root.iter("image"):
        areas: Areas = [((shape.attrib["label"],), _cvat_shape(shape)) for shape in image if shape.tag != "tag"]
        photos.append(Annotated(image.attrib["name"], (int(image.attrib["height"]), int(image.attrib["width"])), areas))
    return photos, {label.text for label in root.iterfind(".//label/name") if label.text}


def _cvat_shape(shape: ElementTree.Element) -> Paint | str:
    def numbers(*names: str) -> Sequence[float]:
        return [float(shape.get(name, "0")) for name in names]

    if shape.tag == "polygon":
        return _polygon([pair.split(",") for pair in shape.attrib["points"].split(";")])
    if shape.tag == "box":
        return _box(*numbers("xtl", "ytl", "xbr", "ybr", "rotation"))
    if shape.tag == "ellipse":
        return _ellipse(*numbers("cx", "cy", "rx", "ry", "rotation"))
    if shape.tag == "mask":
        left, top, width, height = map(int, numbers("left", "top", "width", "height"))
        runs = np.array(shape.attrib["rle"].split(","), np.int64)
        if runs.min() < 0 or runs.sum() != width * height:
            raise ValueError(f"the run lengths of a mask sum up to {runs.sum()} pixels, not {width} x {height}")
        return _bitmap(np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width), left, top)
    return f"is a {shape.tag}, without area"


def _yolo(text: str) -> Content:
    photo = Annotated("", None)
    for number, line in enumerate(text.splitlines(), 1):
        label, *coordinates = line.split() or [""]
        if not label:
            continue
        if not label.isdigit() or len(coordinates) < 4 or len(coordinates) % 2:
            raise ValueError(f"line {number} is no `class x y x y x y ...`")
        points = np.array(coordinates, np.float64)
        if np.isnan(points).any():
            raise ValueError(f"line {number} has a coordinate that is not a number (NaN)")
        if not ((points >= -1) & (points <= 2)).all():
            raise ValueError(f"line {number} has coordinates beyond 0..1, as if they were pixels")
        area = "is a box and no outline" if len(points) == 4 else _polygon(points, relative=True)
        photo.objects.append(((label,), area))
    return [photo], set()

"""Masks from the files of annotation tools: which tool it is, the file's content says.

- COCO JSON: polygons and run lengths, read by pycocotools, whose pixels are the benchmark's. Crowd regions count too.
- LabelMe JSON: polygon, rectangle, circle, mask. Supervisely JSON: polygon (with holes), rectangle, bitmap.
- CVAT XML for images: polygon, box, ellipse, mask. YOLO text: polygons in 0..1.

The last four are small formats, for which no maintained reader comes without OpenCV or a whole tool; their outlines are
painted by Pillow, as LabelMe does. Objects may overlap: each counts whole. An outline that crosses itself has a hole
where it surrounds a point twice; what reaches beyond the photo is cut off. A file without objects gives an empty mask.
Points and lines have no area and are refused. Nothing that a file names is opened; entities in XML are refused.
"""

from __future__ import annotations

import base64
import glob
import io
import json
import math
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageDraw

from fss_lab.errors import ImageError, MissingPackageError
from fss_lab.images.sources import DECODING_ERRORS, existing, upright_size

Points = list[tuple[float, float]]
Paint = Callable[[Image.Image], None]
"""Paints an object with 1 on an image of mode L."""


@dataclass
class Annotated:
    """A photo of an annotation file. name: as the file gives it, "" if it does not. size: (height, width), None where
    coordinates are relative. objects: class names, and what paints each or says why it has no area."""

    name: str
    size: tuple[int, int] | None
    objects: list[tuple[tuple[str, ...], Paint | str]] = field(default_factory=list)


def annotated_mask(
    path: str | os.PathLike[str], foreground: int | str | None, photo: str | os.PathLike[str] | None
) -> np.ndarray:
    """uint8 (H, W) with 0 and 1: all objects of the class `foreground`, or of the only class in the file.

    Raises ImageError for a file that cannot be read, describes another photo or size, has several classes or lacks this
    one; MissingPackageError for COCO's annotations without pycocotools.
    """
    photos, classes = read_annotations(path)
    annotated = _choose(photos, path, photo)
    size = annotated.size
    if photo is not None or size is None:
        real = _photo_size(Path(photo) if photo is not None else _beside(Path(path)))
        if size is not None and size != real:
            raise ImageError(
                f"{path} is for a photo of {size[1]} x {size[0]} pixels, but {photo} has {real[1]} x {real[0]} "
                "(upright, as EXIF says); annotate this photo at its own size"
            )
        size = real
    names = sorted({names[0] for names, _ in annotated.objects})
    known = classes | {name for names, _ in annotated.objects for name in names}
    if foreground is None and len(names) > 1:
        raise ImageError(f"{path} has objects of several classes: {_some(names)}. Say which: foreground={names[0]!r}")
    if foreground is not None and known and str(foreground) not in known:
        raise ImageError(f"{path} has no class {foreground!r}; it has {_some(sorted(known))}")
    if size[0] * size[1] > (limit := Image.MAX_IMAGE_PIXELS or 2**31):
        raise ImageError(f"{path} is for a photo of {size[1]} x {size[0]} pixels, more than {limit}; reduce it")
    canvas = Image.new("L", size[::-1])
    for names_of, paint in annotated.objects:
        if foreground is None or str(foreground) in names_of:
            if isinstance(paint, str):
                raise ImageError(f"{path}: an object of the class {names_of[0]!r} {paint}; draw an outline around it")
            try:
                paint(canvas)
            except (*DECODING_ERRORS, TypeError, AttributeError, OverflowError) as error:
                raise ImageError(
                    f"{path}: an object of the class {names_of[0]!r} cannot be painted ({error})"
                ) from error
    return np.array(canvas)


def annotated_classes(path: str | os.PathLike[str], photo: str | os.PathLike[str]) -> set[str]:
    """The classes of the objects on a photo, by name or number. Raises ImageError as `annotated_mask`."""
    photos, _ = read_annotations(path)
    return {name for names, _ in _choose(photos, path, photo).objects for name in names}


def read_annotations(path: str | os.PathLike[str]) -> tuple[dict[str, Annotated], set[str]]:
    """The photos of a file by their names, and the classes that it declares. Raises ImageError for another file."""
    path = existing(path)
    state = path.stat()
    return _read(path.resolve(), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _read(path: Path, changed: int, size: int) -> tuple[dict[str, Annotated], set[str]]:
    try:
        if path.suffix.lower() == ".txt":
            photos, classes = _yolo(path.read_text(encoding="utf-8"))
        elif path.suffix.lower() == ".xml":
            photos, classes = _cvat(path.read_bytes())
        else:
            photos, classes = _json(json.loads(path.read_text(encoding="utf-8-sig")))
        if len(named := {photo.name: photo for photo in photos}) < len(photos):
            names = [photo.name for photo in photos]
            raise ValueError(f"several photos named {max(names, key=names.count)}")
        return named, classes
    except (*DECODING_ERRORS, TypeError, AttributeError, OverflowError, RecursionError) as error:
        kinds = "COCO, LabelMe or Supervisely JSON, CVAT XML for images, or YOLO polygons"
        raise ImageError(
            f"{path} cannot be read as annotations ({type(error).__name__}: {error}); expected {kinds}"
        ) from error


def _choose(
    photos: dict[str, Annotated], path: str | os.PathLike[str], photo: str | os.PathLike[str] | None
) -> Annotated:
    if list(photos) == [""]:
        return photos[""]
    if photo is None:
        if len(photos) == 1:
            return next(iter(photos.values()))
        raise ImageError(
            f"{path} describes {len(photos)} photos; say which: load_mask(..., photo={next(iter(photos), 'path')!r})"
        )
    parts = Path(photo).absolute().parts
    same_name = [p for p in photos.values() if _parts(p.name)[-1:] == parts[-1:]]
    matching = (
        [p for p in same_name if _parts(p.name) == parts[-len(_parts(p.name)) :]] if len(same_name) > 1 else same_name
    )
    if len(matching) != 1:
        raise ImageError(
            f"{path} describes {len(matching) or 'no'} photos named {Path(photo).name}; it has {_some(list(photos))}"
        )
    return matching[0]


def _parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(name.replace("\\", "/")).parts


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _photo_size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(existing(path)) as image:
            return upright_size(image)
    except DECODING_ERRORS as error:
        raise ImageError(f"{path}, the photo of the annotations, cannot be read ({error})") from error


def _beside(path: Path) -> Path:
    """The photo of a YOLO file: of its name, beside it or in the folder `images` beside its own folder."""
    for folder in (path.parent, path.parent.parent / "images"):
        for candidate in sorted(folder.glob(f"{glob.escape(path.stem)}.*")):
            if candidate.suffix.lower() in Image.registered_extensions():
                return candidate
    raise ImageError(f"{path} has relative coordinates; give the photo they belong to: load_mask(..., photo=path)")


# -- painting --


def _polygon(outline: Points, holes: tuple[Points, ...] = (), relative: bool = False) -> Paint:
    def paint(canvas: Image.Image) -> None:
        scale = canvas.size if relative else (1, 1)
        rings = [[(round(x * scale[0], 2), round(y * scale[1], 2)) for x, y in ring] for ring in (outline, *holes)]
        for ring in rings:
            _check(ring, canvas.size)
        target = Image.new("L", canvas.size) if holes else canvas
        for number, ring in enumerate(rings):
            ImageDraw.Draw(target).polygon(ring, fill=int(not number), outline=1)
        if holes:
            canvas.paste(1, mask=target.point(lambda value: 255 * value))

    return paint


def _check(ring: Points, size: tuple[int, int]) -> None:
    """Raises ValueError for an outline of fewer than three points or one that can only be another photo's."""
    if len(ring) < 3:
        raise ValueError(f"an outline has {len(ring)} points, expected three or more")
    for point in ring:
        if not all(
            math.isfinite(value) and -side <= value <= 2 * side for value, side in zip(point, size, strict=True)
        ):
            raise ValueError(f"the point {point} lies far outside of {size[0]} x {size[1]} pixels")


def _ellipse(x: float, y: float, rx: float, ry: float, degrees: float = 0.0) -> Paint:
    return _polygon(
        _turned(
            [(x + rx * math.cos(t), y + ry * math.sin(t)) for t in np.linspace(0, 2 * math.pi, 180)], (x, y), degrees
        )
    )


def _box(x0: float, y0: float, x1: float, y1: float, degrees: float = 0.0) -> Paint:
    return _polygon(_turned([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], ((x0 + x1) / 2, (y0 + y1) / 2), degrees))


def _turned(points: Points, centre: tuple[float, float], degrees: float) -> Points:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [
        (centre[0] + c * (x - centre[0]) - s * (y - centre[1]), centre[1] + s * (x - centre[0]) + c * (y - centre[1]))
        for x, y in points
    ]


def _bitmap(mask: np.ndarray, left: float, top: float) -> Paint:
    """mask: (h, w) bool, whose first pixel lies at (left, top)."""
    stamp = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    return lambda canvas: canvas.paste(1, (round(left), round(top)), stamp)


def _encoded_png(text: str, compressed: bool = False) -> np.ndarray:
    content = base64.b64decode(text)
    if compressed:
        content = zlib.decompressobj().decompress(content, 2**28)  # an end to bombs
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        if "A" in image.getbands() or "transparency" in image.info:
            return np.array(image.convert("RGBA"))[..., 3] > 0
        return np.array(image.convert("L")) > 0


def _pairs(numbers: list[float]) -> Points:
    if len(numbers) % 2:
        raise ValueError("an outline has an odd number of coordinates")
    return list(zip(map(float, numbers[::2]), map(float, numbers[1::2]), strict=True))


# -- formats --


def _json(content: dict[str, Any]) -> tuple[list[Annotated], set[str]]:
    if "annotations" in content and "images" in content:
        return _coco(content)
    if "shapes" in content:
        photo = Annotated("", (int(content["imageHeight"]), int(content["imageWidth"])))
        photo.objects = [((str(shape["label"]),), _labelme(shape)) for shape in content["shapes"]]
        return [photo], set()
    if "objects" in content and "size" in content:
        photo = Annotated("", (int(content["size"]["height"]), int(content["size"]["width"])))
        photo.objects = [((str(thing["classTitle"]),), _supervisely(thing)) for thing in content["objects"]]
        return [photo], set()
    raise ValueError(f"it has the keys {_some(list(content))}")


def _coco(content: dict[str, Any]) -> tuple[list[Annotated], set[str]]:
    categories = {category["id"]: (str(category["name"]), str(category["id"])) for category in content["categories"]}
    photos = {
        image["id"]: Annotated(str(image["file_name"]), (int(image["height"]), int(image["width"])))
        for image in content["images"]
    }
    for annotation in content["annotations"]:
        photo = photos[annotation["image_id"]]
        photo.objects.append((categories[annotation["category_id"]], _coco_region(annotation.get("segmentation"))))
    return list(photos.values()), {name for names in categories.values() for name in names}


def _coco_region(region: Any) -> Paint | str:
    if not region:
        return "has a box at most and no outline"

    def paint(canvas: Image.Image) -> None:
        try:
            from pycocotools import mask as masks
        except ImportError as error:
            raise MissingPackageError('COCO\'s annotations need pycocotools: pip install "fss-lab[real]"') from error
        width, height = canvas.size
        if isinstance(region, list):
            for polygon in region:
                _check(_pairs(polygon), canvas.size)
            code = masks.merge(masks.frPyObjects(region, height, width))
        else:
            if list(region["size"]) != [height, width]:
                raise ValueError(f"its run lengths are for {region['size']} pixels, the photo has {[height, width]}")
            if isinstance(region["counts"], list) and sum(region["counts"]) != height * width:
                raise ValueError(f"its run lengths sum up to {sum(region['counts'])} pixels, not {height * width}")
            code = masks.frPyObjects(region, height, width) if isinstance(region["counts"], list) else region
        canvas.paste(1, mask=Image.fromarray(masks.decode(code) * np.uint8(255)))

    return paint


def _labelme(shape: dict[str, Any]) -> Paint | str:
    kind, points = shape.get("shape_type", "polygon"), [(float(x), float(y)) for x, y in shape["points"]]
    if kind == "polygon":
        return _polygon(points)
    if kind == "rectangle":
        return _box(*points[0], *points[1])
    if kind == "circle":
        return _ellipse(*points[0], *[math.dist(*points)] * 2)
    if kind == "mask":
        return _bitmap(_encoded_png(shape["mask"]), *points[0])
    return f"is a {kind} and has no area"


def _supervisely(thing: dict[str, Any]) -> Paint | str:
    kind = thing["geometryType"]
    if kind == "bitmap":
        return _bitmap(_encoded_png(thing["bitmap"]["data"], compressed=True), *thing["bitmap"]["origin"])
    exterior = [(float(x), float(y)) for x, y in thing["points"]["exterior"]]
    if kind == "polygon":
        return _polygon(
            exterior, tuple([(float(x), float(y)) for x, y in hole] for hole in thing["points"]["interior"])
        )
    return _box(*exterior[0], *exterior[1]) if kind == "rectangle" else f"is a {kind} and has no area"


def _cvat(content: bytes) -> tuple[list[Annotated], set[str]]:
    if (
        b"<!DOCTYPE" in content or b"<!ENTITY" in content or b"\x00" in content
    ):  # entities can fill the memory or read files
        raise ValueError("it declares a document type or entities, or is no UTF-8, which CVAT's files never are")
    root = ElementTree.fromstring(content)
    if root.tag != "annotations" or root.find("track") is not None:
        raise ValueError(
            f"its root is <{root.tag}>{' with the tracks of a video' if root.find('track') is not None else ''}"
        )
    photos = []
    for element in root.iter("image"):
        photo = Annotated(element.attrib["name"], (int(element.attrib["height"]), int(element.attrib["width"])))
        photo.objects = [((shape.attrib["label"],), _cvat_shape(shape)) for shape in element if shape.tag != "tag"]
        photos.append(photo)
    return photos, {label.text for label in root.iterfind(".//label/name") if label.text}


def _cvat_shape(shape: ElementTree.Element) -> Paint | str:
    def numbers(*names: str) -> Iterator[float]:
        return (float(shape.get(name, "0")) for name in names)

    if shape.tag == "polygon":
        return _polygon(
            [(float(x), float(y)) for x, y in (pair.split(",") for pair in shape.attrib["points"].split(";"))]
        )
    if shape.tag == "box":
        return _box(*numbers("xtl", "ytl", "xbr", "ybr", "rotation"))
    if shape.tag == "ellipse":
        return _ellipse(*numbers("cx", "cy", "rx", "ry", "rotation"))
    if shape.tag == "mask":
        left, top, width, height = map(int, numbers("left", "top", "width", "height"))
        runs = np.array([int(run) for run in shape.attrib["rle"].split(",")])
        if runs.min() < 0 or runs.sum() != width * height:
            raise ValueError(f"the run lengths of a mask sum up to {runs.sum()} pixels, not {width} x {height}")
        return _bitmap(np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width), left, top)
    return f"is a {shape.tag} and has no area"


def _yolo(text: str) -> tuple[list[Annotated], set[str]]:
    photo = Annotated("", None)
    for number, line in enumerate(text.splitlines(), 1):
        label, *coordinates = line.split() or [""]
        if not label:
            continue
        if not label.isdigit() or len(coordinates) < 4 or (len(coordinates) > 4 and len(coordinates) % 2):
            raise ValueError(f"line {number} is no `class x y x y x y ...`")
        points = _pairs([float(value) for value in coordinates])
        if any(not -1 <= value <= 2 for point in points for value in point):
            raise ValueError(f"line {number} has coordinates beyond 0..1, as if they were pixels")
        area: Paint | str = "is a box and no outline" if len(coordinates) == 4 else _polygon(points, relative=True)
        photo.objects.append(((label,), area))
    return [photo], set()

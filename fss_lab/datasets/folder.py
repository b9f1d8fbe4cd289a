"""Your own photos: `photos/<class>/<name>.jpg`, each with its mask beside it, of any size.

    photos/
        mug/   IMG_1.jpg   IMG_1.png        the mask of a photo has its name and the suffix .png (.gif, .npy),
        shoe/  a.png       a_mask.png       or its name and _mask.png;
        cup/   b.jpg       b.json           or it is of LabelMe, Supervisely (.json) or YOLO (.txt)

Also `images/<class>/` with the photos and `masks/<class>/` or `annotations/<class>/` with masks of the same names; or
one COCO file, `photos/instances.json`, with the photos beside it or in folders: then its categories are the classes,
and a photo counts once for each of its categories.

A mask is as `fss_lab.images.load_mask` reads it: 0 and 1, or black and white. `fss_lab.MaskPainter` draws one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from PIL import Image
from torch import Tensor

from fss_lab.datasets.protocols import Counted, ListedEpisodes, benchmark, draw_episodes
from fss_lab.episode import IGNORE
from fss_lab.errors import ImageError, InputError
from fss_lab.images import load_image, load_mask, orientation_doubt, upright_size
from fss_lab.images.annotations import annotated_classes, read_annotations
from fss_lab.images.sources import ANNOTATIONS

PHOTOGRAPHS = (".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif")
UNREADABLE = (".heic", ".heif", ".avif", ".dng", ".cr2", ".nef", ".arw")  # by Pillow alone, or in its older versions
MASKS = (".png", ".gif", ".npy", ".json", ".txt")


@dataclass(frozen=True)
class Photo:
    """A photo and its mask, by their paths: `model.segment(query, (photo.image, photo.mask))`.

    mask: a picture, or the file of an annotation tool, which may describe many photos (`load_mask(..., photo=)`)."""

    class_name: str
    image: Path
    mask: Path


class Folder(Counted):
    """The photos of a folder as an image set (`fss_lab.datasets.protocols.ImageSet`), each of one class.

    photos: the `Photo`s of every class, by its name. skipped: what `skip_bad` left out, in words.
    classes: 0, 1, ... in the order of the class names (without 254, whose label would be that of ignored pixels).
    names: of all photos, "<class>/<file>".
    """

    fold, split, class_uniform = 0, "novel", False

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        skip_bad: bool = False,
        foreground: int | str | None = None,
        threshold: float | None = None,
    ) -> None:
        """Look for photos and masks under `root`; they are read when needed (`check` reads them all).

        skip_bad: read everything now, leave out what is bad and list it in `skipped`.
        foreground, threshold: of all masks, as in `load_mask`. In files of annotation tools the class of the photo's
        folder is the foreground, unless given or not among several.
        Raises FileNotFoundError without a folder `root`, InputError that lists photos without mask, masks without
        photo, files of other formats and classes without photos; with skip_bad only if no class is left. The
        list tells of unreadable files and wrong values too; alone, these are no error before `check` or use.
        """
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(f"{self.root} is no folder (looked from {Path.cwd()}); expected one folder a class")
        self.name = f"photos in {self.root.name}"
        self._reading = foreground, threshold
        photos, problems = _look(self.root)
        self._take(photos)
        if skip_bad:
            bad = self._bad()
            self._take([photo for photo in photos if photo not in bad])
            problems += bad.values()
        elif problems:
            problems += self._bad().values()  # all in one go, now that the files must be looked at anyway
            raise InputError(
                f"{self.root} has {len(problems)} problem(s) (skip_bad=True leaves such files out):\n"
                + "\n".join(problems[:20])
            )
        self.skipped = tuple(problems)
        if not self.photos:
            nothing = f"{self.root} has no photo with a mask; expected {self.root}/<class>/<name>.jpg and <name>.png"
            raise InputError("\n".join([nothing, *problems]))

    def _take(self, photos: Sequence[Photo]) -> None:
        class_names = sorted({photo.class_name for photo in photos})
        self.photos = {name: tuple(p for p in photos if p.class_name == name) for name in class_names}
        self.classes = tuple(n for n in range(len(class_names) + 1) if n + 1 != IGNORE)[: len(class_names)]
        ids = dict(zip(class_names, self.classes, strict=True))
        self._class_names = dict(zip(self.classes, class_names, strict=True))
        self._by_name = {f"{photo.class_name}/{photo.image.name}": photo for photo in photos}
        self._counts = {name: (ids[photo.class_name],) for name, photo in self._by_name.items()}

    def __repr__(self) -> str:
        return f"Folder({', '.join(f'{len(photos)} {name}' for name, photos in self.photos.items())})"

    def class_name(self, class_id: int) -> str:
        """The name of a class, that of its folder."""
        return self._class_names[class_id]

    def image(self, name: str) -> Tensor:
        """RGB, (3, H, W) uint8. Raises ImageError or FileNotFoundError that name the file."""
        return load_image(self._by_name[name].image)

    def label(self, name: str) -> Tensor:
        """(H, W) uint8, int16 for the classes from 255 on: 0 = background, class id + 1, 255 = ignore.

        Raises ImageError that names the file for a mask without foreground, of another size than its photo, or as
        `load_mask`.
        """
        mask, label = _read_mask(self._by_name[name], *self._reading), self.counts_for(name)[0] + 1
        return mask.to(torch.uint8 if label < IGNORE else torch.int16).masked_fill(mask == 1, label)

    def check(self) -> list[str]:
        """Read every photo and mask; what is wrong with them and what may be, in words (see `orientation_doubt`)."""
        bad = self._bad()
        doubts = [orientation_doubt(p.image, p.mask) for p in self._by_name.values() if p not in bad]
        return [*bad.values(), *filter(None, doubts)]

    def _bad(self) -> dict[Photo, str]:
        bad = {}
        for photo in self._by_name.values():
            try:
                load_image(photo.image)
                _read_mask(photo, *self._reading)
            except (ImageError, OSError) as error:
                bad[photo] = str(error)
        return bad

    def episodes(self, shots: int = 1, count: int | None = None, seed: int = 0, size: int = 512) -> ListedEpisodes:
        """Episodes that query every photo in turn, with `shots` others of its class as supports.

        count: how many; None: each photo is the query once. seed: chooses the supports. size: photos and masks are
        stretched to size x size pixels, as the method does; `target(i)` keeps the query's own size for scoring.
        Raises InputError for a class with fewer than shots + 1 photos.
        """
        drawn = draw_episodes(benchmark("fssam"), self, shots, len(self) if count is None else count, seed)
        return ListedEpisodes(drawn, self, size)


def _look(root: Path) -> tuple[list[Photo], list[str]]:
    """All photos that have a mask, and what is wrong with the others, in words."""
    folders = {path.name.lower(): path for path in _visible(root) if path.is_dir()}
    photos, problems = _coco(root)
    if not photos and not problems:
        images = folders.get("images")
        masks = next((folders[name] for name in ("masks", "annotations") if images and name in folders), None)
        for folder in [path for path in _visible(images) if path.is_dir()] if images and masks else folders.values():
            beside = [path for path in _visible(masks / folder.name) if path.is_file()] if masks else None
            pairs, wrong = _pair(folder, beside)
            photos, problems = photos + pairs, problems + wrong
    names = Counter(f"{photo.class_name}/{photo.image.name}" for photo in photos)
    problems += [f"{root} has several photos called {name}: rename them" for name, n in names.items() if n > 1]
    return photos, problems


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def _coco(root: Path) -> tuple[list[Photo], list[str]]:
    """The photos of the one COCO file in `root`, once for each of their classes; nothing if there is none."""
    files = {}
    for path in root.glob("*.json"):
        with suppress(ImageError):  # a JSON for something else
            if "" not in (annotated := read_annotations(path)[0]):
                files[path] = annotated
    if len(files) > 1:
        return [], [f"{root} has several COCO files, {', '.join(path.name for path in files)}: keep one"]
    photos, problems = [], []
    folders = [root, *(path for path in _visible(root) if path.is_dir())]
    for path, photo in ((path, photo) for path, annotated in files.items() for photo in annotated.values()):
        name = PurePosixPath(photo.name.replace("\\", "/"))
        folder = next((folder for folder in folders if (folder / name).is_file()), None)
        outside = folder is not None and not (folder / name).resolve().is_relative_to(folder.resolve())
        if outside or name.is_absolute() or ".." in name.parts:
            problems.append(f"{path} describes {photo.name}, which leads out of its folder: put the photo there")
        elif folder is None:
            problems.append(f"{path} describes {photo.name}, which is not in {root}: add it, or remove it there")
        else:
            photos += [Photo(label, folder / name, path) for label in {names[0] for names, _ in photo.objects}]
    return sorted(photos, key=lambda photo: (photo.class_name, photo.image)), problems


def _pair(folder: Path, beside: list[Path] | None) -> tuple[list[Photo], list[str]]:
    """The photos of one class with their masks, from the same folder or from the files `beside`."""
    photos: list[Photo] = []
    problems: list[str] = []
    files = [path for path in _visible(folder) if path.is_file()]
    masks = {path.name.lower(): path for path in _masks_among(files)} if beside is None else {}
    unused = dict(masks) if beside is None else {path.name.lower(): path for path in beside}
    for path in files:
        if path.suffix.lower() in UNREADABLE and not _is_photograph(path):
            problems.append(f"{path} is of a format that cannot be read: save it as JPEG")
        if not (_is_photograph(path) or path.suffix.lower() == ".png") or path.name.lower() in masks:
            continue
        wanted = [f"{path.stem}{ending}{suffix}" for ending in ("_mask", "") for suffix in (*MASKS, *PHOTOGRAPHS)]
        names = [name.lower() for name in (*wanted, f"{path.name}.json") if name.lower() in unused]
        if names:
            photos.append(Photo(folder.name, path, unused.pop(names[0])))
        else:
            ending = "_mask.png" if path.suffix.lower() == ".png" and beside is None else ".png"
            place = "beside it" if beside is None else "into the folder of masks"
            problems.append(f"{path} has no mask: put {path.stem}{ending} {place} (fss_lab.MaskPainter draws one)")
    stems = {photo.image.stem.lower() for photo in photos}
    for path in unused.values():
        if path.suffix.lower() == ".png" or path.stem.lower().removesuffix("_mask") not in stems:
            photo = path.stem.removesuffix("_mask") + ".jpg"
            problems.append(f"{path} is a mask without a photo: add {photo} or remove it")
    if not photos:
        problems.append(f"{folder} has no photo with a mask: add some or remove this class")
    return photos, problems


def photos_among(files: Sequence[Path]) -> list[Path]:
    """The photos among the files of one folder: by their names no masks, nor raw files with a readable twin."""
    masks, readable = set(_masks_among(files)), {path.stem.lower() for path in files if _is_photograph(path)}
    pictures = [path for path in files if _is_photograph(path) or path.suffix.lower() in (".png", *UNREADABLE)]
    return [
        path
        for path in pictures
        if path not in masks and (path.suffix.lower() not in UNREADABLE or path.stem.lower() not in readable)
    ]


def _masks_among(files: Sequence[Path]) -> list[Path]:
    photographs = {path.stem.lower() for path in files if _is_photograph(path)}
    stems = photographs | {path.stem.lower() for path in files if path.suffix.lower() == ".png"}
    return [path for path in files if _is_mask(path, photographs, stems)]


def _is_photograph(path: Path) -> bool:
    return path.suffix.lower() in PHOTOGRAPHS and path.suffix.lower() in Image.registered_extensions()


def _is_mask(path: Path, photographs: set[str], stems: set[str]) -> bool:
    """By its name, among files of which some are photos with these stems."""
    stem, suffix = path.stem.lower(), path.suffix.lower()
    if suffix == ".png":
        return stem.endswith("_mask") or stem in photographs
    if stem.endswith("_mask") and stem.removesuffix("_mask") in stems:
        return _is_photograph(path) or suffix in MASKS
    return suffix in MASKS and (stem in stems or Path(stem).stem in stems)


def _read_mask(photo: Photo, foreground: int | str | None, threshold: float | None) -> Tensor:
    if photo.mask.suffix.lower() in ANNOTATIONS and foreground is None:
        classes = annotated_classes(photo.mask, photo.image)
        foreground = photo.class_name if photo.class_name in classes else None
    mask = load_mask(photo.mask, foreground=foreground, threshold=threshold, photo=photo.image)
    with Image.open(photo.image) as image:
        size, stored = upright_size(image), image.size[::-1]
    if tuple(mask.shape) != size:
        turned = " once EXIF has turned it; the mask is not turned" if tuple(mask.shape) == stored else ""
        raise ImageError(
            f"{photo.mask} has {mask.shape[1]} x {mask.shape[0]} pixels but its photo {photo.image.name} has "
            f"{size[1]} x {size[0]}{turned}; draw it again on this photo, at its full size"
        )
    if not (mask == 1).any():
        raise ImageError(
            f"{photo.mask} marks no pixel as foreground (1, or white); mark the object, or remove the photo"
        )
    return mask

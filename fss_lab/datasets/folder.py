"""Your own photos: `photos/<class>/<name>.jpg`, each with its mask beside it, of any size.

    photos/
        mug/   IMG_1.jpg   IMG_1.png        the mask of a photo has its name and the suffix .png,
        shoe/  a.png       a_mask.png       or its name and _mask.png

A mask is as `fss_lab.images.load_mask` reads it: 0 and 1, or black and white. `fss_lab.MaskPainter` draws one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from fss_lab.datasets.protocols import ListedEpisodes, benchmark, draw_episodes
from fss_lab.episode import IGNORE
from fss_lab.errors import ImageError, InputError
from fss_lab.images import load_image, load_mask, upright_size

PHOTOGRAPHS = (".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
UNREADABLE = (".heic", ".heif", ".avif")  # what telephones write and Pillow alone does not read


@dataclass(frozen=True)
class Photo:
    """A photo and its mask, by their paths: `model.segment(query, (photo.image, photo.mask))`."""

    class_name: str
    image: Path
    mask: Path


class Folder:
    """The photos of a folder as an image set (`fss_lab.datasets.protocols.ImageSet`), each of one class.

    photos: the `Photo`s of every class, by its name. skipped: what `skip_bad` left out, in words.
    classes: 0, 1, ... in the order of the class names (without 254, whose label would be that of ignored pixels).
    names: of all photos, "<class>/<file>".
    """

    fold, split, class_uniform = 0, "novel", False

    def __init__(self, root: str | os.PathLike[str], *, skip_bad: bool = False) -> None:
        """Look for photos and masks under `root`; they are read when needed (`check` reads them all).

        skip_bad: read everything now, leave out what is bad and list it in `skipped`.
        Raises FileNotFoundError without a folder `root`, InputError that lists photos without mask, masks without
        photo, files of other formats and classes without photos; with skip_bad only if no class is left. The
        list tells of unreadable files and wrong values too; alone, these are no error before `check` or use.
        """
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(f"{self.root} is no folder (looked from {Path.cwd()}); expected one folder a class")
        self.name = f"photos in {self.root.name}"
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
        self._ids = dict(zip(class_names, self.classes, strict=True))
        self._by_name = {f"{photo.class_name}/{photo.image.name}": photo for photo in photos}

    def __repr__(self) -> str:
        return f"Folder({', '.join(f'{len(photos)} {name}' for name, photos in self.photos.items())})"

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def names(self) -> Sequence[str]:
        """The names of all photos, class by class."""
        return tuple(self._by_name)

    def class_name(self, class_id: int) -> str:
        """The name of a class, that of its folder."""
        return list(self.photos)[self.classes.index(class_id)]

    def counts_for(self, name: str) -> tuple[int, ...]:
        """The one class of a photo; it counts however small its object is."""
        return (self._ids[self._by_name[name].class_name],)

    def image(self, name: str) -> Tensor:
        """RGB, (3, H, W) uint8. Raises ImageError or FileNotFoundError that name the file."""
        return load_image(self._by_name[name].image)

    def label(self, name: str) -> Tensor:
        """(H, W) uint8, int16 for the classes from 255 on: 0 = background, class id + 1, 255 = ignore.

        Raises ImageError that names the file for a mask without foreground, of another size than its photo, or as
        `load_mask`.
        """
        mask, label = _read_mask(self._by_name[name]), self.counts_for(name)[0] + 1
        return mask.to(torch.uint8 if label < IGNORE else torch.int16).masked_fill(mask == 1, label)

    def check(self) -> list[str]:
        """Read every photo and mask; what is wrong with them, in words."""
        return list(self._bad().values())

    def _bad(self) -> dict[Photo, str]:
        bad = {}
        for photo in self._by_name.values():
            try:
                load_image(photo.image)
                _read_mask(photo)
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
    photos: list[Photo] = []
    problems: list[str] = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        before = len(photos)
        photographs = {path.stem.lower() for path in files if path.suffix.lower() in PHOTOGRAPHS}
        masks = {
            path.name.lower(): path
            for path in files
            if path.suffix.lower() == ".png"
            and (path.stem.lower().endswith("_mask") or path.stem.lower() in photographs)
        }
        unused = dict(masks)
        for path in files:
            if path.suffix.lower() in UNREADABLE:
                problems.append(f"{path} is of a format that cannot be read: save it as JPEG")
            if path.suffix.lower() not in (*PHOTOGRAPHS, ".png") or path.name.lower() in masks:
                continue
            names = [f"{path.stem}{end}".lower() for end in ("_mask.png", ".png")]
            matching = [name for name in names if name in unused]
            if matching:
                photos.append(Photo(folder.name, path, unused.pop(matching[0])))
            else:
                wanted = f"{path.stem}_mask.png" if path.suffix.lower() == ".png" else f"{path.stem}.png"
                problems.append(f"{path} has no mask: put {wanted} beside it (fss_lab.MaskPainter draws one)")
        for path in unused.values():
            photo = path.stem.removesuffix("_mask") + ".jpg"
            problems.append(f"{path} is a mask without a photo: add {photo} or remove it")
        if len(photos) == before:
            problems.append(f"{folder} has no photo with a mask: add some or remove this class")
    return photos, problems


def _read_mask(photo: Photo) -> Tensor:
    mask = load_mask(photo.mask)
    with Image.open(photo.image) as image:
        size = upright_size(image)
    if tuple(mask.shape) != size:
        raise ImageError(
            f"{photo.mask} has {mask.shape[1]} x {mask.shape[0]} pixels but its photo {photo.image.name} has "
            f"{size[1]} x {size[0]}; draw it again on this photo, at its full size"
        )
    if not (mask == 1).any():
        raise ImageError(
            f"{photo.mask} marks no pixel as foreground (1, or white); mark the object, or remove the photo"
        )
    return mask

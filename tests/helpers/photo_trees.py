"""VOC 2012, SBD and COCO 2014 in miniature, with their file names and formats, for whoever reads or prepares them."""

import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from fss_lab.datasets import coco
from fss_lab.images.masks import voc_colours

HEIGHT, WIDTH = 64, 72  # half of it, 2,304 pixels, is enough for an image to count


def half(label: int, right: int = 0) -> np.ndarray:
    """A label map with `label` on its left half, a border of 255 and `right` beside."""
    labels = np.full((HEIGHT, WIDTH), right, np.uint8)
    labels[:, : WIDTH // 2] = label
    labels[:, WIDTH // 2] = 255
    return labels


def photo(path: Path, labels: np.ndarray) -> None:
    """A JPEG of noise in which labels are brighter than the background."""
    noise = np.random.default_rng(len(path.name)).integers(0, 60, (*labels.shape, 3))
    brighter = np.where(labels == 255, 0, labels.astype(int) * 8 % 180)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((noise + brighter[..., None]).astype(np.uint8)).save(path)


def label_map(path: Path, labels: np.ndarray) -> None:
    """A palette PNG as VOC's."""
    image = Image.fromarray(labels)
    image.putpalette(voc_colours().ravel().tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def mat(path: Path, labels: np.ndarray) -> None:
    """A class map as SBD's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"Boundaries": np.zeros((20, 1)), "Segmentation": labels, "CategoriesPresent": np.unique(labels)}
    scipy.io.savemat(path, {"GTcls": content})


def voc_lists(root: Path, train: list[str], val: list[str], noval: list[str] | None = None) -> None:
    """VOC's lists below a VOC2012 folder, and SBD's."""
    folder = root / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True, exist_ok=True)
    for name, names in {"train": train, "val": val}.items():
        (folder / f"{name}.txt").write_text("".join(f"{each}\n" for each in names))
    if noval is not None:
        (root / "train_noval.txt").write_text("".join(f"{each}\n" for each in noval))


def voc_and_sbd(root: Path, each: int = 2) -> None:
    """VOC and SBD as unpacked below `root`, and `root/train_noval.txt`; `each` test images of every class.

    Of every class: one training image that VOC labels, one that SBD alone labels, and one that both label otherwise
    (SBD as background).
    """
    voc, sbd = root / "VOCdevkit" / "VOC2012", root / "benchmark_RELEASE" / "dataset"
    names: dict[str, list[str]] = {"train": [], "noval": [], "val": []}
    for label in range(1, 21):
        kinds = [("train", "a"), ("train", "both"), ("noval", "b"), *(("val", f"v{n}") for n in range(each))]
        for part, kind in kinds:
            name = f"2008_{label:02d}{kind}"
            names[part].append(name)
            photo(voc / "JPEGImages" / f"{name}.jpg", half(label))
            if part != "noval":
                label_map(voc / "SegmentationClass" / f"{name}.png", half(label))
            if kind in ("b", "both"):
                labels = half(label if kind == "b" else 0)
                mat(sbd / "cls" / f"{name}.mat", np.where(labels == 255, 0, labels))
    voc_lists(voc, names["train"], names["val"])
    (root / "train_noval.txt").write_text("\n".join(names["noval"]))


def coco_tree(root: Path, each: int = 2) -> None:
    """COCO below `root`: `each` images of every category in train2014 and val2014, as polygon, RLE or crowd."""
    for part in ("train", "val"):
        images, annotations = [], []
        for class_id, category in enumerate(sorted(coco.CATEGORIES)):
            for _ in range(each):
                number = len(images) + 1
                name = f"COCO_{part}2014_{number:012d}.jpg"
                images.append({"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH})
                annotations.append(annotation(number, category, [0, 0, WIDTH // 2, HEIGHT], crowd=number % 2 == 0))
                photo(root / f"{part}2014" / name, half(class_id + 1))
        instances(root, part, images, annotations)


def instances(root: Path, part: str, images: list, annotations: list) -> Path:
    """Write an annotation file of COCO with all categories."""
    for number, each in enumerate(annotations, 1):
        each["id"] = number
    names = [{"id": number, "name": coco.CLASS_NAMES[class_id]} for number, class_id in coco.CATEGORIES.items()]
    path = root / "annotations" / f"instances_{part}2014.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": names}))
    return path


def annotation(image: int, category: int, box: list[int], crowd: bool = False) -> dict:
    """A rectangle (left, top, width, height), as polygon or, for a crowd, as uncompressed run lengths."""
    left, top, width, height = box
    corners = [left, top, left + width, top, left + width, top + height, left, top + height]
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + height, left : left + width] = True
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat.astype(int))) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    outline = {"size": [HEIGHT, WIDTH], "counts": [0, *counts] if flat[0] else counts} if crowd else [corners]
    area = width * height
    return {"image_id": image, "category_id": category, "segmentation": outline, "area": area, "iscrowd": int(crowd)}


def tar(archive: Path, folder: Path, name: str, mode: str = "w") -> None:
    """An archive of `folder / name`."""
    with tarfile.open(archive, mode) as file:
        file.add(folder / name, name)


def zipped(archive: Path, folder: Path, name: str) -> None:
    """The same as zip."""
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((folder / name).rglob("*")):
            file.write(path, path.relative_to(folder).as_posix())

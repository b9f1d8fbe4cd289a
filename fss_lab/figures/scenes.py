"""Figures of the toy world: many small pictures with their names."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import torch
from matplotlib.patches import Patch
from torch import Tensor

from fss_lab.errors import InputError
from fss_lab.figures import style
from fss_lab.figures.panels import name_panel, overlay
from fss_lab.figures.style import Picture, legend
from fss_lab.toyworld import scenes
from fss_lab.toyworld.drawings import draw
from fss_lab.toyworld.pictograms import CLASS_NAMES, TEXTURED, fold_classes


def contact_sheet(
    images: Sequence[Tensor | np.ndarray],
    titles: Sequence[str],
    title: str,
    columns: int = 10,
    highlight: Collection[int] = (),
    note: str = "",
) -> Picture:
    """Many small images with their names.

    images: N of (3, H, W) or (H, W, 3), in 0..255. titles: N. highlight: indices of images that stand out in
    the colour of the supports; `note` tells what they are. Raises InputError for unequal numbers.
    """
    if len(images) != len(titles) or not len(images):
        raise InputError(f"expected one title for each image, got {len(images)} images and {len(titles)} titles")
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    alt = f"{title}: {len(images)} small pictures named {', '.join(titles)}."
    if highlight:
        alt += f" {note}: {', '.join(titles[index] for index in sorted(highlight))}."
    picture = Picture(9.5, 0.55 + 1.15 * rows + 0.3 * bool(highlight), title, alt)
    for index, axes in enumerate(np.ravel(picture.subplots(rows, columns))):
        if index >= len(images):
            axes.axis("off")
            continue
        pixels = torch.as_tensor(images[index])
        overlay(axes, pixels if pixels.shape[0] == 3 else pixels.permute(2, 0, 1))
        chosen = index in highlight
        name_panel(axes, titles[index], style.SUPPORT if chosen else style.INK, style.SMALL, bold=chosen)
        if chosen:
            for spine in axes.spines.values():
                spine.set(visible=True, color=style.SUPPORT, linewidth=2.5)
    if highlight:
        legend(picture, Patch(facecolor="none", edgecolor=style.SUPPORT, linewidth=2.5, label=note))
    return picture


def toy_world_figure(fold: int | None = None, seed: int = 0, size: int = 96) -> Picture:
    """One individual of each of the twenty classes of Pictograms; the novel ones of `fold` stand out."""
    portraits = []
    for class_id, name in enumerate(CLASS_NAMES):
        rng = np.random.default_rng([seed, class_id])
        individual = scenes.dress(rng, class_id, draw(name, rng), TEXTURED)
        pose = scenes.Pose(x=size / 2, y=size / 2, radius=0.42 * size)
        portraits.append(scenes.render(scenes.draw_background(rng, size), [individual], [pose], rng).image)
    return contact_sheet(
        portraits,
        CLASS_NAMES,
        "Pictograms: the toy world's twenty classes",
        highlight=() if fold is None else fold_classes(fold, "novel"),
        note=f"novel classes of fold {fold}, never seen in training",
    )

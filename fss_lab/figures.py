"""Figures of episodes, priors, attention and scores: tensors in, matplotlib figures out.

One colour language, the same everywhere, safe for colour-blind readers (Okabe and Ito):

    SUPPORT    blue            what a support mask shows, and all that concerns the supports
    TRUTH      bluish green    the query's own mask, which the model never sees
    PREDICTION vermillion      what the model answers
    PRIOR      reddish purple  a guess at the query's mask; soft priors in PRIOR_MAP, white to purple
    ATTENTION_MAP              attention, dark to bright
    DIFFERENCE_MAP             after minus before: red = more, blue = less, white = the same

A mask is a translucent tint with a crisp contour. Nothing here touches pyplot, so no figure stays open behind
one's back. Every figure is a `Picture`: it shows itself in a notebook with an alternative text for those who
cannot see it, and `keep` also saves it.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, PowerNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from fss_lab.datasets import scenes
from fss_lab.datasets.drawings import draw
from fss_lab.datasets.pictograms import CLASS_NAMES, fold_classes
from fss_lab.episode import Episode
from fss_lab.method import Prediction
from fss_lab.method.trace import Trace
from fss_lab.metrics import SegmentationScore, bootstrap_interval

SUPPORT = "#0072B2"
TRUTH = "#009E73"
PREDICTION = "#D55E00"
PRIOR = "#CC79A7"
DEEP_PRIOR = "#8C3B6B"  # the same hue, dark enough to read
INK = "#333333"
PALE = "#BBBBBB"
PRIOR_MAP = LinearSegmentedColormap.from_list("prior", ["#FFFFFF", "#EBC6DA", PRIOR, DEEP_PRIOR, "#4A1038"])
ATTENTION_MAP = "magma"
DIFFERENCE_MAP = "RdBu_r"

DPI = 100
TITLE, TEXT, SMALL = 13, 10.5, 9.5  # points


class Picture(Figure):
    """A matplotlib figure with an alternative text, which shows itself as PNG in a notebook."""

    def __init__(self, width: float, height: float, title: str, alt: str = "", gap: float = 0.07) -> None:
        """width, height: inches (100 pixels each). alt: one or two sentences that replace the picture.
        gap: free space on either side of every panel, in inches.
        """
        layout = ConstrainedLayoutEngine(w_pad=gap, h_pad=0.07, compress=True)
        super().__init__(figsize=(width, height), dpi=DPI, layout=layout, facecolor="white")
        self.alt = alt
        self.suptitle(title, fontsize=TITLE, fontweight="bold", color=INK)

    def png(self) -> bytes:
        """The picture as the bytes of a PNG file; its description is the alternative text.

        In 256 colours (see `_flatten`), a quarter of the size.
        """
        raw, file, notes = io.BytesIO(), io.BytesIO(), PngInfo()
        self.savefig(raw, format="png")
        maps = [
            shown.get_cmap() for axes in self.axes for shown in axes.images if np.asarray(shown.get_array()).ndim == 2
        ]
        flat = _flatten(Image.open(raw).convert("RGB"), list({cmap.name: cmap for cmap in maps}.values()))
        notes.add_itxt("Description", self.alt)
        flat.save(file, "png", optimize=True, pnginfo=notes)
        return file.getvalue()

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        """What Jupyter asks for: the PNG with its alternative text, which is also the plain-text form."""
        image = base64.b64encode(self.png()).decode()
        return {"image/png": image, "text/plain": self.alt}, {"image/png": {"alt": self.alt}}


def keep(picture: Picture, folder: str | Path | None, name: str) -> Picture:
    """Save the picture as folder/name.png, unless folder is None, and return it, so that a cell can show it."""
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.png").write_bytes(picture.png())
    return picture


# ---- pieces


def overlay(axes: Axes, image: Tensor, mask: Tensor | None = None, colour: str = SUPPORT, width: float = 1.5) -> None:
    """Draw an image and, on it, a mask as a translucent tint with a crisp contour.

    image: (3, H, W) in 0..255. mask: (H, W), 1 where the object is (0, 255 and False are not drawn), or None.
    width: of the contour in points; thinner suits small panels.
    """
    _bare(axes)
    axes.imshow(image.detach().cpu().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy())
    if mask is None:
        return
    tint = np.zeros((*mask.shape, 4))
    tint[..., :3] = to_rgb(colour)
    tint[..., 3] = 0.4 * (mask == 1).cpu().numpy()
    axes.imshow(tint)
    contour(axes, mask, colour, width=width)


def contour(axes: Axes, mask: Tensor, colour: str, size: Sequence[int] | None = None, width: float = 1.5) -> None:
    """Outline a mask (H, W), 1 where the object is, with a thin white rim that keeps it visible everywhere.

    size: height and width of the axes' image in pixels, if not the mask's own. Nothing is drawn for a mask
    without an edge.
    """
    inside = np.pad((mask == 1).cpu().numpy().astype(float), 1)  # objects at the border get a closed outline
    if not inside.any():
        return
    high, wide = size or mask.shape
    x = (np.arange(inside.shape[1]) - 0.5) * wide / mask.shape[1] - 0.5
    y = (np.arange(inside.shape[0]) - 0.5) * high / mask.shape[0] - 0.5
    axes.contour(x, y, inside, levels=[0.5], colors="white", linewidths=width + 1, alpha=0.8)
    axes.contour(x, y, inside, levels=[0.5], colors=colour, linewidths=width)
    axes.set(xlim=(-0.5, wide - 0.5), ylim=(high - 0.5, -0.5))


def heat(
    axes: Axes, values: Tensor, cmap: str | Colormap, norm: Normalize, size: Sequence[int] | None = None
) -> AxesImage:
    """Draw a map (h, w) with crisp cells, stretched over an image of `size` (H, W) if given."""
    _bare(axes)
    for spine in axes.spines.values():  # a map may be white up to its border
        spine.set(visible=True, color=PALE, linewidth=0.8)
    height, width = size or values.shape
    return axes.imshow(
        values.detach().float().cpu().numpy(),
        cmap=cmap,
        norm=norm,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="nearest",
    )


def central_cell(mask: Tensor, grid: int = 16) -> tuple[int, int]:
    """(row, column) of the grid cell deepest inside the object: covered by it, and near its centre.

    mask: (H, W), 1 where the object is. Raises ValueError if there is no object.
    """
    covered = F.adaptive_avg_pool2d((mask == 1).float()[None, None], grid)[0, 0]  # grid, grid
    if not covered.any():
        raise ValueError("the mask shows no object (value 1), so it has no central cell")
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    far = (rows - (covered * rows).sum() / covered.sum()) ** 2
    far = far + (columns - (covered * columns).sum() / covered.sum()) ** 2
    far = far.masked_fill(covered < 0.999 * covered.max(), math.inf)
    return divmod(int(far.argmin()), grid)


# ---- figures


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
    the colour of the supports; `note` tells what they are. Raises ValueError for unequal numbers.
    """
    if len(images) != len(titles) or not len(images):
        raise ValueError(f"expected one title for each image, got {len(images)} images and {len(titles)} titles")
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
        _name(axes, titles[index], SUPPORT if chosen else INK, SMALL, bold=chosen)
        if chosen:
            for spine in axes.spines.values():
                spine.set(visible=True, color=SUPPORT, linewidth=2.5)
    if highlight:
        _legend(picture, Patch(facecolor="none", edgecolor=SUPPORT, linewidth=2.5, label=note))
    return picture


def toy_world_figure(fold: int | None = None, seed: int = 0, size: int = 96) -> Picture:
    """One individual of each of the twenty classes of Pictograms; the novel ones of `fold` stand out."""
    portraits = []
    for class_id, name in enumerate(CLASS_NAMES):
        rng = np.random.default_rng([seed, class_id])
        individual = scenes.dress(rng, class_id, draw(name, rng))
        pose = scenes.Pose(x=size / 2, y=size / 2, radius=0.42 * size)
        portraits.append(scenes.render(scenes.draw_background(rng, size), [individual], [pose], rng).image)
    return contact_sheet(
        portraits,
        CLASS_NAMES,
        "Pictograms: the toy world's twenty classes",
        highlight=() if fold is None else fold_classes(fold, "novel"),
        note=f"novel classes of fold {fold}, never seen in training",
    )


def episode_figure(episode: Episode, prediction: Prediction | Tensor | None = None) -> Picture:
    """Supports with their masks, the query with its own mask, and the prediction beside it.

    prediction: a `Prediction`, a mask (H, W) of bool or 0/1, or None for an episode that is still unsolved.
    """
    mask = prediction.mask if isinstance(prediction, Prediction) else prediction
    shots = len(episode.support_images)
    rows = 1 if shots == 1 else 2
    columns = math.ceil(shots / rows)
    queries = 1 if mask is None else 2
    side = min(3.3, 9.0 / (columns / rows + queries))
    task = f"Find the {episode.class_name}: {shots}-shot episode"
    picture = Picture(side * (columns / rows + queries) + 0.3, side + 1.15, task)
    grid = picture.add_gridspec(rows, columns + rows * queries)
    for shot in range(shots):
        axes = picture.add_subplot(grid[shot // columns, shot % columns], anchor="N")
        overlay(axes, episode.support_images[shot], episode.support_masks[shot], SUPPORT, width=1.5 if rows == 1 else 1)
        _name(axes, "support" if shots == 1 else f"support {shot + 1}", SUPPORT)
    # the queries are larger than the supports when there are many
    spot = [grid[:, columns + rows * i : columns + rows * (i + 1)] for i in range(queries)]

    axes = picture.add_subplot(spot[0], anchor="N")
    overlay(axes, episode.query_image, episode.query_mask, TRUTH)
    _name(axes, "query and truth", TRUTH)
    legend = [_patch(SUPPORT, "support mask (given)"), _patch(TRUTH, "truth (hidden from the model)")]
    picture.alt = (
        f"A {shots}-shot episode of the class {episode.class_name}: support images with the object tinted blue, "
        "and the query image with its true mask in green."
    )
    if mask is not None:
        score = iou(mask, episode.query_mask)
        axes = picture.add_subplot(spot[1], anchor="N")
        _answer(axes, episode, mask)
        _name(axes, f"prediction, IoU {100 * score:.0f} %", PREDICTION)
        legend.append(_patch(PREDICTION, "prediction"))
        picture.alt += (
            f" Beside it the prediction in vermillion; it overlaps the truth with an IoU of {100 * score:.0f} %."
        )
    _legend(picture, *legend)
    return picture


def iou(mask: Tensor, truth: Tensor) -> float:
    """Intersection over union of a mask (H, W) and a truth (H, W) of 0, 1 and 255 (left out); 0 for no union."""
    guess, valid = mask.bool() & (truth != 255), truth == 1
    return float((guess & valid).sum() / (guess | valid).sum().clamp(min=1))


def priors_figure(episode: Episode, trace: Trace) -> Picture:
    """The pseudo prompt before refinement, after each round, and what changed (Secs. PPG and IMR of the paper).

    trace: of the episode's query (batch 1). Raises ValueError for a trace without a prior (memory="support").
    """
    if trace.pseudo_prior is None:
        raise ValueError('this trace has no prior; trace a model with memory="pseudo"')
    size, grid = episode.query_mask.shape, trace.support_masks_refine.shape[-2:]
    before = F.interpolate(trace.pseudo_prior, grid, mode="bilinear", align_corners=True)[0, 0]  # h, w
    maps = [before, *(done.prior[0, 0] for done in trace.rounds)]
    shown = [("prior", before), *((f"after round {i}", values) for i, values in enumerate(maps[1:], start=1))]
    if trace.priors is not None:
        shown.insert(0, ("like the object", trace.priors.foreground[0, 0]))
        shown.insert(1, ("like its background", trace.priors.background_similarity[0].mean(0)))
    panels = 1 + len(shown) + bool(trace.rounds)
    rows, columns = math.ceil(panels / 4), 4
    picture = Picture(9.5, 2.3 * rows + 0.85, "The prior before and after refinement")
    axes = np.ravel(picture.subplots(rows, columns))
    for spare in axes[panels:]:
        spare.axis("off")

    overlay(axes[0], episode.query_image, episode.query_mask, TRUTH, width=1)
    _name(axes[0], f"query ({episode.class_name})", TRUTH)
    for panel, (name, values) in zip(axes[1:], shown, strict=False):
        drawn = heat(panel, values, PRIOR_MAP, Normalize(0, 1), size)
        contour(panel, episode.query_mask, TRUTH, size, width=1)
        _name(panel, name, DEEP_PRIOR)
    _bar(picture, drawn, [axes[min(panels, columns) - 1]], "from 0 (no) to 1 (yes)")
    if trace.rounds:
        change = maps[-1] - maps[0]
        limit = max(float(change.abs().max()), 1e-3)
        drawn = heat(axes[panels - 1], change, DIFFERENCE_MAP, Normalize(-limit, limit), size)
        contour(axes[panels - 1], episode.query_mask, TRUTH, size, width=1)
        _name(axes[panels - 1], "after minus before", INK)
        _bar(picture, drawn, [axes[panels - 1]], "change")
    _legend(picture, Line2D([], [], color=TRUTH, linewidth=2, label="outline of the truth, for comparison"))

    truth = F.adaptive_avg_pool2d((episode.query_mask == 1).float()[None, None], (grid[0], grid[1]))[0, 0]
    inside = [
        float((values.cpu() * truth).sum() / values.cpu().sum().clamp(min=1e-6)) for values in (maps[0], maps[-1])
    ]
    picture.alt = (
        f"Maps of the prior for a query of the class {episode.class_name}, with the outline of the truth: before "
        f"refinement {100 * inside[0]:.0f} % of its mass lie inside the object, after {len(trace.rounds)} rounds "
        f"{100 * inside[1]:.0f} %."
    )
    return picture


def attention_figure(
    episode: Episode, trace: Trace, cell: tuple[int, int], layer: int = -1, head: int | None = None
) -> Picture:
    """Where one query cell looks, before and after the support's calibration (Sec. SCMA of the paper).

    cell: (row, column) on the memory grid, e.g. from `central_cell`. layer: of memory attention; -1 is the last.
    head: of that layer, or None for the mean over the heads. Several shots share one map: what the cell gives to
    them together. All maps share one colour scale, with square-root steps so that small weights stay visible.

    Raises ValueError for a cell outside the grid or a trace without query memory (memory="support").
    """
    found, (height, width) = trace.layers[layer], trace.support_masks.shape[-2:]
    grid = trace.support_masks_attention.shape[-2:]
    row, column = cell
    if not (0 <= row < grid[0] and 0 <= column < grid[1]):
        raise ValueError(f"the cell must lie on the memory grid of {grid[0]} x {grid[1]}, got {cell}")
    parts = found.columns
    if parts.query.start == parts.query.stop:
        raise ValueError('this trace has no query memory; trace a model with memory="pseudo"')
    weights = torch.stack([found.attention_before[0], found.attention[0]]).detach().float().cpu()  # 2, heads, N, L
    weights = (weights.mean(1) if head is None else weights[:, head])[:, row * grid[1] + column] * 100  # 2, L
    support = weights[:, parts.support].unflatten(1, (-1, *grid)).sum(1)  # 2, h, w
    query = weights[:, parts.query].unflatten(1, grid)  # 2, h, w
    shares = torch.stack([weights[:, part].sum(1) for part in (parts.support, parts.query, parts.pointers)], 1)  # 2, 3

    number = layer % len(trace.layers) + 1
    heads = "mean over heads" if head is None else f"head {head}"
    picture = Picture(9.5, 5.3, f"Where one cell of the query looks (layer {number} of {len(trace.layers)}, {heads})")
    axes = picture.subplots(2, 4)
    overlay(axes[0, 0], episode.query_image, episode.query_mask, TRUTH, width=1)
    _mark(axes[0, 0], cell, grid, episode.query_mask.shape)
    _name(axes[0, 0], "query and\nthe cell that looks", TRUTH)
    overlay(axes[1, 0], episode.support_images[0], episode.support_masks[0], SUPPORT, width=1)
    shots = len(episode.support_images)
    _name(axes[1, 0], "support" if shots == 1 else f"support 1 of {shots}", SUPPORT)

    norm = PowerNorm(0.5, 0, float(weights[:, : parts.pointers.start].max()))
    for i, when in enumerate(("before calibration", "after calibration")):
        shown = heat(axes[i, 1], support[i], ATTENTION_MAP, norm, (height, width))
        if shots == 1:
            contour(axes[i, 1], trace.support_masks[0, 0], SUPPORT, width=1)
        _name(axes[i, 1], f"support memory\n{when}", SUPPORT)
        heat(axes[i, 2], query[i], ATTENTION_MAP, norm, (height, width))
        contour(axes[i, 2], episode.query_mask, TRUTH, (height, width), width=1)
        _mark(axes[i, 2], cell, grid, (height, width))
        _name(axes[i, 2], f"query memory\n{when}", TRUTH)
    change = query[1] - query[0]
    limit = max(float(change.abs().max()), 1e-6)
    changed = heat(axes[0, 3], change, DIFFERENCE_MAP, Normalize(-limit, limit), (height, width))
    contour(axes[0, 3], episode.query_mask, TRUTH, (height, width), width=1)
    _name(axes[0, 3], "query memory\nafter minus before", INK)
    _shares(axes[1, 3], shares)
    _bar(picture, shown, list(axes[:, 2]), "attention weight in percent")
    _bar(picture, changed, [axes[0, 3]], "percentage points")
    _legend(
        picture,
        _patch(SUPPORT, "support's object"),
        _patch(TRUTH, "truth"),
        Line2D(
            [],
            [],
            color="white",
            marker="s",
            markersize=8,
            markeredgecolor="black",
            linestyle="none",
            label="the cell",
        ),
    )
    percent = [[f"{float(share):.0f} %" for share in when] for when in shares]
    picture.alt = (
        f"Attention of one query cell inside the object, in layer {number}, as maps over the support memory and the "
        f"query memory. Before calibration it gives {percent[0][0]} to the support memory, {percent[0][1]} to the "
        f"query memory, {percent[0][2]} to the pointers; after it {percent[1][0]}, {percent[1][1]}, {percent[1][2]}."
    )
    return picture


def results_figure(
    scores: Mapping[str, SegmentationScore], colours: Sequence[str] | None = None, title: str = "Scores"
) -> Picture:
    """mIoU of each variant with its 95 % bootstrap interval, best read beside `evaluation.table`.

    colours: one for each variant, in order. Raises ValueError for no scores or another number of colours.
    """
    if not scores:
        raise ValueError("there are no scores to draw")
    colours = [INK] * len(scores) if colours is None else colours
    if len(colours) != len(scores):
        raise ValueError(f"expected a colour for each of {len(scores)} variants, got {len(colours)}")
    picture = Picture(9.5, 1.35 + 0.42 * len(scores), title)
    axes = picture.subplots()
    told = []
    for row, (name, score) in enumerate(scores.items()):
        estimate, low, high = (100 * value for value in bootstrap_interval(score, "miou"))
        axes.hlines(row, low, high, color=colours[row], linewidth=3.5, alpha=0.45)
        axes.plot(estimate, row, "o", color=colours[row], markersize=9)
        axes.text(102, row, f"{estimate:.1f}", va="center", fontsize=TEXT, color=INK)
        told.append(f"{name} {estimate:.0f}")
    axes.set(xlim=(0, 100), ylim=(len(scores) - 0.5, -0.5))
    axes.set_yticks(range(len(scores)), list(scores), fontsize=TEXT, color=INK)
    axes.set_xticks(range(0, 101, 20), [str(tick) for tick in range(0, 101, 20)], fontsize=SMALL)
    axes.set_xlabel("mIoU in percent; line: 95 % bootstrap interval over episodes", fontsize=TEXT, color=INK)
    axes.grid(axis="x", color="#E6E6E6")
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    picture.alt = f"{title}, mIoU in percent: {', '.join(told)}."
    return picture


def overview_figure(episode: Episode, prediction: Prediction) -> Picture:
    """The method in one strip: support and query, prior, refined prior, attention, prediction.

    prediction: of the episode, made with trace=True. Raises ValueError without a trace, a prior, or refinement.
    The README's picture is this figure of `Pictograms(0)[20]` and `load_model("toy", fold=0)`.
    """
    trace = prediction.trace
    if trace is None or trace.pseudo_prior is None or not trace.rounds:
        raise ValueError("the overview needs a prediction with trace=True of a model with a prior that is refined")
    size, grid = episode.query_mask.shape, trace.support_masks_attention.shape[-2:]
    cell = central_cell(episode.query_mask, grid[0])
    layer = trace.layers[-1]
    weights = layer.attention[0].mean(0)[cell[0] * grid[1] + cell[1], layer.columns.query].unflatten(0, grid)  # h, w
    before = F.interpolate(trace.pseudo_prior, grid, mode="bilinear", align_corners=True)[0, 0]  # h, w

    picture = Picture(11, 2.75, f"From one labelled {episode.class_name} to a mask of another", gap=0.12)
    axes = picture.subplots(1, 6)
    overlay(axes[0], episode.support_images[0], episode.support_masks[0], SUPPORT, width=1)
    overlay(axes[1], episode.query_image)
    heat(axes[2], before, PRIOR_MAP, Normalize(0, 1), size)
    heat(axes[3], trace.rounds[-1].prior[0, 0], PRIOR_MAP, Normalize(0, 1), size)
    heat(axes[4], weights, ATTENTION_MAP, PowerNorm(0.5, 0, float(weights.max())), size)
    _mark(axes[4], cell, grid, size)
    _answer(axes[5], episode, prediction.mask, width=1)
    for panel, sign in zip(axes[1:], "+→→→→", strict=True):
        mark = panel.text(-0.07, 0.5, sign, transform=panel.transAxes, ha="center", va="center", fontsize=15)
        mark.set_in_layout(False)
    names = ["support", "query", "prior (PPG)", "refined (IMR)", "attention (SCMA)", "prediction"]
    for panel, name, colour in zip(axes, names, [SUPPORT, INK, DEEP_PRIOR, DEEP_PRIOR, INK, PREDICTION], strict=True):
        _name(panel, name, colour)
    _legend(
        picture,
        _patch(SUPPORT, "support mask"),
        _patch(PRIOR, "prior: the first guess"),
        _patch(PREDICTION, "prediction"),
        Line2D([], [], color=TRUTH, linewidth=2, label="truth"),
    )
    score = iou(prediction.mask, episode.query_mask)
    picture.alt = (
        f"Six panels: a support image with its {episode.class_name} tinted blue, a query image, the prior, the refined "
        f"prior, the attention of one query cell, and the prediction, which overlaps the truth with an IoU of "
        f"{100 * score:.0f} %."
    )
    return picture


# ---- helpers


def _flatten(image: Image.Image, maps: Sequence[Colormap]) -> Image.Image:
    """An RGB image in 256 colours: white, 64 steps of each map, so that maps stay true, the rest for the image."""
    steps = [cmap(np.linspace(0, 1, 64), bytes=True)[:, :3] for cmap in maps[:3]]
    fixed = np.concatenate([np.full((1, 3), 255), *steps]).astype(np.int64)
    free = image.quantize(256 - len(fixed), Image.Quantize.MAXCOVERAGE, kmeans=1).getpalette() or []
    palette = np.concatenate([fixed, np.reshape(free, (-1, 3))])[:256]
    packed, place = np.unique(np.asarray(image).astype(np.int64) @ (65536, 256, 1), return_inverse=True)
    colours = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1)
    # Pillow's own look-up rounds colours, which turns white into almost white
    nearest = torch.cdist(torch.tensor(colours).float(), torch.tensor(palette).float()).argmin(1).numpy()
    flat = Image.fromarray(nearest.astype(np.uint8)[place].reshape(image.height, image.width))
    flat.putpalette(palette.astype(np.uint8).tobytes())
    return flat


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _name(axes: Axes, text: str, colour: str, size: float = TEXT, bold: bool = True) -> None:
    axes.set_title(text, fontsize=size, color=colour, fontweight="bold" if bold else "normal", pad=5)


def _patch(colour: str, label: str) -> Patch:
    return Patch(facecolor=(*to_rgb(colour), 0.4), edgecolor=colour, linewidth=1.6, label=label)


def _legend(picture: Picture, *entries: Patch | Line2D) -> None:
    picture.legend(
        handles=list(entries),
        loc="outside lower center",
        ncols=len(entries),
        fontsize=SMALL,
        frameon=False,
        labelcolor=INK,
    )


def _bar(picture: Picture, shown: AxesImage, axes: Sequence[Axes], label: str) -> None:
    bar = picture.colorbar(shown, ax=list(axes), shrink=0.9, aspect=18 * len(axes), pad=0.03)
    bar.set_label(label, fontsize=SMALL, color=INK)
    bar.ax.tick_params(labelsize=9, length=2)
    bar.outline.set_visible(False)


def _answer(axes: Axes, episode: Episode, mask: Tensor, width: float = 1.5) -> None:
    """The predicted mask (H, W) over the query, with the outline of the truth below it."""
    _bare(axes)
    contour(axes, episode.query_mask, TRUTH, width=width)
    overlay(axes, episode.query_image, mask, PREDICTION, width)


def _mark(axes: Axes, cell: tuple[int, int], grid: Sequence[int], size: Sequence[int]) -> None:
    """Frame one cell of the grid over an image of `size` (H, W)."""
    high, wide = size[0] / grid[0], size[1] / grid[1]
    corner = (cell[1] * wide - 0.5, cell[0] * high - 0.5)
    axes.add_patch(Rectangle(corner, wide, high, fill=False, edgecolor="black", linewidth=3.5, zorder=5))
    axes.add_patch(Rectangle(corner, wide, high, fill=False, edgecolor="white", linewidth=1.5, zorder=6))


def _shares(axes: Axes, shares: Tensor) -> None:
    """Bars of how much goes to support memory, query memory and pointers. shares: (2, 3), before and after."""
    for i, (when, colour) in enumerate((("before", PALE), ("after", INK))):
        axes.bar(np.arange(3) + 0.4 * (i - 0.5), shares[i].numpy(), width=0.38, color=colour, label=when)
    axes.set_xticks(range(3), ["support", "query", "pointers"], fontsize=9)
    axes.tick_params(axis="y", labelsize=9)
    axes.tick_params(length=0)
    axes.set_ylabel("share in percent", fontsize=SMALL, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_box_aspect(1)
    axes.set_ylim(0, 1.25 * float(shares.max()))
    axes.legend(fontsize=9, frameon=False, loc="upper center", ncols=2, borderaxespad=0, columnspacing=1)
    _name(axes, "what each part gets", INK)

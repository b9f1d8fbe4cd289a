"""Segment photos of your own in one call."""

from __future__ import annotations

from collections.abc import Sequence

from tqdm.auto import tqdm

from fss_lab.images import Source
from fss_lab.method import FSSAM
from fss_lab.method.records import Prediction


def segment_photos(
    model: FSSAM,
    photo: Source | Sequence[Source],
    mask: Source | Sequence[Source],
    queries: Source | Sequence[Source],
    *,
    foreground: int | str | None = None,
) -> list[Prediction]:
    """Segment in every query what one photo with its mask shows (or K photos with their masks).

    photo, mask, foreground: as `FSSAM.remember` takes them. queries: one or a list of them: paths, PIL images, arrays
    or tensors, each of any size.
    Returns one `Prediction` for each query, at its own size, in their order. A prediction of a photo of 12 megapixels
    takes 96 MB; for many of those call `model.remember` once and `model.segment` in a loop of your own.
    Raises ImageError or FileNotFoundError that name a bad file, InputError for photos and masks that do not fit.
    """
    support = model.remember(photo, mask, foreground=foreground)
    several = queries if isinstance(queries, list | tuple) else [queries]
    return [model.segment(query, support) for query in tqdm(several, "photos", disable=None)]

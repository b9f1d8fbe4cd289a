"""FSSAM for people: photos of any size and kind in, masks of the same size out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fss_lab.backbones.cache import FeatureCache
from fss_lab.backbones.sam2 import ImageFeatures, Sam2Backbone
from fss_lab.episode import Episode, check_support
from fss_lab.errors import InputError, NotFiniteError
from fss_lab.images import Source, as_list, load_image, load_mask, orientation_doubt, reduced
from fss_lab.images.annotations import check_shown
from fss_lab.method.encoding import FrozenEncoders
from fss_lab.method.options import PRESENT
from fss_lab.method.presence import Presence, evidence, score
from fss_lab.method.prompts import generate_priors, resize
from fss_lab.method.records import Encoded, LabelMap, Output, Prediction, Support
from fss_lab.method.trace import Inputs, map_tensors

Foreground = int | str | None
"""Which value or class of a mask is meant, see `load_mask`."""


@dataclass(frozen=True)
class Query:
    """A query as the frozen encoders see it, for any number of supports."""

    image: Tensor  # 3, H, W in 0..255, at its own size
    features: ImageFeatures  # batch 1
    dense: Tensor | None  # 1, c, hf, wf
    truth: Tensor | None = None  # H, W of 0, 1, 255; None where nobody knows it


class Segmenting(FrozenEncoders):
    """The verbs `remember`, `segment`, `segment_classes` and `click`, for a model that has `predict`.

    presence: makes a prediction's score of the evidence for the class; None: SAM 2's own (`fss_lab.method.presence`).
    click_warning: said at the first click of a model that was not trained for them.
    """

    def __init__(self, sam2: Sam2Backbone, features: nn.Module | None, precision: str) -> None:
        """As `FrozenEncoders`."""
        super().__init__(sam2, features, precision)
        self.presence: Presence | None = None
        self.click_warning = ""

    def predict(self, encoded: Encoded, trace: bool = False) -> Output:
        """From remembered supports to logits."""
        raise NotImplementedError

    @torch.no_grad()
    def remember(
        self,
        images: Source | Sequence[Source],
        masks: Source | Sequence[Source],
        *,
        foreground: Foreground = None,
        cache: FeatureCache | None = None,
    ) -> Support:
        """Look at K labelled supports once, for any number of queries.

        images, masks: one each, or K of them: paths, PIL images, arrays or tensors (`fss_lab.images`). Each mask has
        its image's size; sizes may differ between shots. Very large photos are averaged down first (`images.reduced`).
        foreground: which value or class of the masks is meant, see `load_mask`. The model must be in evaluation mode
        for the result to be reproducible (it is, unless `train()` was called). cache: as in `FSSAM.encode`.

        Warns where a mask may have been drawn on a photo as stored, which EXIF turns. Raises InputError for no support,
        unequal numbers or sizes, or a mask without foreground; and whatever `load_image` and `load_mask` raise.
        """
        image_list, mask_list = as_list(images, dims=3), as_list(masks, dims=2)
        if len(image_list) != len(mask_list) or not image_list:
            numbers = f"{len(image_list)} images and {len(mask_list)} masks"
            raise InputError(f"expected as many support masks as images, at least one, got {numbers}")
        for doubt in filter(None, map(orientation_doubt, image_list, mask_list)):
            warnings.warn(doubt, stacklevel=2)
        labels = [load_mask(m, foreground=foreground, photo=i) for i, m in zip(image_list, mask_list, strict=True)]
        names = []
        for number, pair in enumerate(zip(image_list, mask_list, strict=True), 1):
            check_shown(pair[1], foreground, pair[0])
            files = " with ".join(str(place) for place in pair if isinstance(place, str | PathLike))
            names.append(f"support {number}, {files}".rstrip(", "))
        return self._remember([load_image(image) for image in image_list], labels, cache, names)

    @torch.no_grad()
    def segment(
        self,
        query: Source | Episode,
        support: Support | tuple[Any, Any] | Episode | None = None,
        *,
        foreground: Foreground = None,
        trace: bool = False,
        cache: FeatureCache | None = None,
    ) -> Prediction:
        """Segment a query image of any size.

        query: an image (path, PIL image, array, tensor), or an `Episode`, which brings its own supports.
        support: a `Support` from `remember`, a pair (images, masks) as `remember` takes it, or an `Episode`
        whose supports are to be used. foreground: of the masks of a pair, as in `remember`.
        trace: also return every tensor of the forward pass. cache: as in `FSSAM.encode`.

        Raises InputError or TypeError for anything else, NotFiniteError where the arithmetic overflows, and whatever
        `remember` raises.
        """
        if isinstance(query, Episode) and support is None:
            support = query
        name = support.class_name if isinstance(support, Episode) else ""
        if isinstance(query, Episode):
            # a benchmark's images keep their numbers, however large they are
            image, truth, name = query.query_image, query.query_mask, name or query.class_name
        else:
            image, truth = load_image(query), None
        remembered = self._as_support(support, foreground, cache)
        seen = self._encode_query(image, truth, reduce=not isinstance(query, Episode), cache=cache)
        return self._segment(seen, remembered, name, trace)

    @torch.no_grad()
    def segment_classes(
        self,
        query: Source,
        supports: Mapping[str, Support | tuple[Any, Any] | Episode],
        *,
        foreground: Foreground | Mapping[str, int | str] = None,
        threshold: float = PRESENT,
        cache: FeatureCache | None = None,
    ) -> LabelMap:
        """Give every pixel of a query to one of several classes or to the background.

        A pixel goes to the class with the highest product of its probability and the class's score, among the classes
        whose probability is above one half there. The encoders run once.

        query: an image, as `segment` takes it. supports: by class name, each as `segment` takes it.
        foreground: of the masks of pairs, for all classes or by class name.
        threshold: a class whose `Prediction.score` is below gets no pixel; 0 keeps all.

        Raises InputError for no classes or more than 254, and whatever `segment` raises.
        """
        if not 0 < len(supports) < 255:
            raise InputError(f"expected 1 to 254 classes with their supports, got {len(supports)}")
        by_class = foreground if isinstance(foreground, Mapping) else dict.fromkeys(supports, foreground)
        remembered = {n: self._as_support(support, by_class.get(n), cache) for n, support in supports.items()}
        seen = self._encode_query(load_image(query), None, reduce=True, cache=cache)
        predictions = {name: self._segment(seen, support, name) for name, support in remembered.items()}
        labels = torch.zeros(seen.image.shape[-2:], dtype=torch.uint8)
        best = torch.zeros(labels.shape)
        for number, prediction in enumerate(predictions.values(), start=1):
            if prediction.score >= threshold:
                joint = prediction.score * prediction.probability
                better = prediction.mask & (joint > best)
                labels[better], best[better] = number, joint[better]
        return LabelMap(labels, predictions)

    @torch.no_grad()
    def click(
        self,
        image: Source,
        points: Sequence[Sequence[float]] = (),
        labels: Sequence[int] | None = None,
        *,
        boxes: Sequence[Sequence[float]] | Sequence[float] = (),
        cache: FeatureCache | None = None,
    ) -> Prediction:
        """Segment what points or boxes mark in one image, with SAM 2's own prompt encoder and mask decoder.

        points: (x, y) in pixels of the image, (0, 0) its top left corner. labels: 1 for a point on the object, 0 for
        one off it; None: all are on it. boxes: one (left, top, right, bottom) or several, whose objects are united;
        points may refine one box. cache: as in `FSSAM.encode`; with one, further clicks on an image are quick.
        The score is SAM 2's own. The prompt encoder is as published; where the mask decoder was trained for few-shot
        segmentation, clicks are answered less well than by SAM 2.

        Raises InputError for points outside the image, labels that do not fit them, boxes without area, or nothing
        that marks an object; and what `load_image` raises. Warns once where the model was not trained for clicks.
        """
        pixels = load_image(image)
        prompts, kinds = _prompts(points, labels, boxes, (pixels.shape[-1], pixels.shape[-2]))
        if self.click_warning:
            warnings.warn(self.click_warning, stacklevel=3)
            self.click_warning = ""
        size = self.sam2.image_size
        features, _ = self.encode_images([reduced(pixels, size)], cache, dense=False)
        scale = torch.tensor([size / pixels.shape[-1], size / pixels.shape[-2]])
        decoded = self.sam2.click(
            features[[0] * len(prompts)], (prompts * scale).to(self.device), kinds.to(self.device),
            multimask=kinds.shape[1] == 1,
        )  # fmt: skip
        low = decoded.low_res_logits.amax(0, keepdim=True)
        logits = F.interpolate(low, (size, size), mode="bilinear", align_corners=False).squeeze(1)
        return self.finish(Output(logits, low, decoded.ious, decoded.object_score), pixels, None, None)

    def _as_support(self, support: object, foreground: Foreground, cache: FeatureCache | None) -> Support:
        if isinstance(support, tuple) and len(support) == 2:
            support = self.remember(*support, foreground=foreground, cache=cache)
        elif foreground is not None:
            raise InputError(
                f"foreground={foreground!r} is for a pair (images, masks); this support's masks are read already"
            )
        elif isinstance(support, Episode):
            support = self._remember(list(support.support_images), list(support.support_masks), cache)
        if not isinstance(support, Support):
            given = type(support).__name__
            raise TypeError(f"expected a Support from remember(), a pair (images, masks) or an Episode, got {given}")
        if support.sam2 is not self.sam2:
            raise InputError("this Support was remembered by another model; call remember() of the model that segments")
        return support

    def _encode_query(self, image: Tensor, truth: Tensor | None, reduce: bool, cache: FeatureCache | None) -> Query:
        seen = reduced(image, self.sam2.image_size) if reduce else image
        return Query(image, *self.encode_images([seen], cache), truth)

    def _segment(self, query: Query, support: Support, name: str, trace: bool = False) -> Prediction:
        """name: of the class, for the trace."""
        priors = None
        if query.dense is not None and support.features is not None:
            priors = generate_priors(query.dense, support.features.unsqueeze(0), support.masks.unsqueeze(0))
        encoded = Encoded(
            query=query.features, support_masks=support.masks.unsqueeze(0), priors=priors,
            query_masks=None if query.truth is None else self.fit_masks(query.truth[None, None]),
            support_memory=map_tensors(lambda x: x.unsqueeze(0), support.memory),
        )  # fmt: skip
        output = self.predict(encoded, trace=trace)
        traced = output.trace and replace(output.trace, inputs=Inputs(query.image, support.images, query.truth, name))
        return self.finish(replace(output, trace=traced), query.image, query.dense, support)

    def finish(self, output: Output, image: Tensor, dense: Tensor | None, support: Support | None) -> Prediction:
        """The output (batch 1) at the size of the image (3, H, W). dense: the query's dense features.

        support: None for clicks, whose score is SAM 2's own. Raises NotFiniteError for logits that are not finite.
        """
        if not output.low_res_logits.isfinite().all():
            raise NotFiniteError(f"the logits of the mask are NaN or infinite: {self._overflow()}")
        known = evidence(output, dense, support)
        logits = resize(output.logits.unsqueeze(1).float(), image.shape[-2:])[0, 0].cpu()
        sure = score(known, None if support is None else self.presence)
        origin = (support, dense) if output.trace else (None, None)
        return Prediction(logits.sigmoid() > 0.5, logits, image, sure, known, output.trace, *origin)

    def _overflow(self) -> str:
        """The likely cause of logits that are not finite, and what to do."""
        bad = [name for name, parameter in self.named_parameters() if not parameter.isfinite().all()]
        if bad:
            return f"so are weights of the model ({bad[0]}, {len(bad)} in all). Load the model again"
        kind = self.device.type
        if torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16:
            return "float16 ends at 65504, and SAM 2's numbers exceed it. Use torch.bfloat16, or leave autocast out"
        return "the networks' numbers exceed what their type holds. Use other weights; a training may have diverged"

    def _remember(
        self, images: list[Tensor], masks: list[Tensor], cache: FeatureCache | None, names: Sequence[str] = ()
    ) -> Support:
        """images: K of (3, H, W); masks: K of (H, W) with 0, 1, 255. names: of photos, which are averaged down where
        they are very large; an episode's images have none."""
        fitted = []
        numbered = names or [f"support {number}" for number in range(1, len(images) + 1)]
        for name, image, mask in zip(numbered, images, masks, strict=True):
            check_support(name, image, mask)
            fitted.append(self.fit_masks(mask[None, None])[0])
            if not fitted[-1].any():
                raise InputError(
                    f"{name}: the object is so small that it vanishes when the image is resized to "
                    f"{self.sam2.image_size} pixels; crop the support closer to the object"
                )
        seen = [reduced(image, self.sam2.image_size) for image in images] if names else images
        features, dense = self.encode_images(seen, cache)
        memory = self.sam2.remember(features, torch.stack(fitted))
        return Support(memory, torch.cat(fitted), dense, images, self.sam2, self.features)


def _prompts(points: Any, labels: Any, boxes: Any, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """What `FSSAM.click` is given -> (B, P, 2) float and (B, P) int32 as `Sam2Backbone.click` takes them.

    size: width and height of the image.
    """
    marks, corners = (_places(given, count, size) for given, count in ((points, 1), (boxes, 2)))  # N, 1 or 2, 2
    kinds = [1] * len(marks) if labels is None else np.ravel(labels).tolist()
    if len(kinds) != len(marks) or not set(kinds) <= {0, 1}:
        raise InputError(f"each of {len(marks)} points needs a label, 1 on the object or 0 off it, got {labels!r}")
    if not len(corners) and 1 not in kinds:
        raise InputError("nothing marks the object: give a point on it (label 1), or a box around it")
    if len(corners) > 1 and kinds:
        raise InputError(f"points refine one box, and {len(corners)} are given; click on their objects one by one")
    if len(corners) and not (corners[:, 0] < corners[:, 1]).all():
        raise InputError(f"a box is (left, top, right, bottom) with left < right and top < bottom, got {boxes!r}")
    objects = len(corners) or 1
    prompts = torch.cat([*([corners] if len(corners) else []), marks.transpose(0, 1).expand(objects, -1, -1)], dim=1)
    return prompts, torch.tensor([[2, 3][: 2 * len(corners)] + kinds] * objects, dtype=torch.int32)


def _places(given: Any, corners: int, size: tuple[int, int]) -> Tensor:
    """(N, corners, 2) of N points or boxes in an image of this size; a single one is one row. Raises InputError."""
    try:
        rows = np.array(given, dtype=np.float32)
        if rows.size and (rows.ndim > 2 or rows.shape[-1] != 2 * corners):
            raise ValueError
    except (TypeError, ValueError) as error:
        form = "points are a list of (x, y)", "boxes are a list of (left, top, right, bottom)"
        raise InputError(f"{form[corners - 1]} in pixels of the image, got {given!r}") from error
    places = torch.from_numpy(rows.reshape(-1, corners, 2))
    if not ((places >= 0) & (places <= torch.tensor(size))).all():  # written so that NaN fails too
        raise InputError(
            f"{('points', 'boxes')[corners - 1]} lie in the image, x in 0..{size[0]} and y in 0..{size[1]} pixels, got "
            f"{given!r}"
        )
    return places

"""What goes into FSSAM and what comes out: encoded episodes, outputs, remembered supports, predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from fss_lab.backbones.sam2 import ImageFeatures, Memory, Sam2Backbone
from fss_lab.method.prompts import Priors
from fss_lab.method.trace import Trace, map_tensors

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class _Episodes:
    """B episodes at the model's image size S."""

    query: ImageFeatures  # batch B
    support_masks: Tensor  # B, K, S, S in {0, 1}
    priors: Priors | None  # None without a feature extractor
    query_masks: Tensor | None  # B, 1, S, S in {0, 1}; None where nobody knows them

    def __len__(self) -> int:
        return len(self.support_masks)

    def __getitem__(self, index: slice | Tensor | Sequence[int]) -> Self:
        """Select episodes by a slice, a list or an index tensor."""
        return map_tensors(lambda x: x[index], self)


@dataclass(frozen=True)
class EpisodeFeatures(_Episodes):
    """All that the frozen networks say of B episodes; the same for all models that share these."""

    support: ImageFeatures  # B, K, ...


@dataclass(frozen=True)
class Encoded(_Episodes):
    """B episodes whose supports a model has remembered: what it predicts from."""

    support_memory: Memory  # B, K, ...


@dataclass(frozen=True)
class Output:
    """What a forward pass gives."""

    logits: Tensor  # B, S, S at the model's image size; threshold 0
    low_res_logits: Tensor  # B, 1, S/4, S/4: the same mask before upsampling
    ious: Tensor  # B, 3: predicted IoU of the three candidates
    trace: Trace | None = None


@dataclass(frozen=True)
class Support:
    """K remembered supports, ready for any number of queries. Made by `FSSAM.remember`.

    Only models that share its SAM 2 can use it. It belongs to the weights that made it: remember again after training
    or loading others.
    """

    memory: Memory  # batch K
    masks: Tensor  # K, S, S in {0, 1}
    features: Tensor | None  # K, c, hf, wf: dense features
    images: list[Tensor]  # as they were given, K of 3, H, W in 0..255
    sam2: Sam2Backbone  # that remembered

    def __repr__(self) -> str:
        return f"Support({len(self)} remembered, {self.masks.shape[-2]} x {self.masks.shape[-1]})"

    def __len__(self) -> int:
        return len(self.masks)


@dataclass(frozen=True)
class Prediction:
    """A segmentation at the query's original size, on the CPU."""

    mask: Tensor  # bool, H, W: probability > 0.5
    probability: Tensor  # H, W in 0..1
    logits: Tensor  # H, W
    trace: Trace | None = None  # of the forward pass (batch 1, on the model's device), if asked for

    def __repr__(self) -> str:
        height, width = self.mask.shape
        traced = ", traced" if self.trace else ""
        return f"Prediction({height} x {width}, {self.mask.float().mean():.0%} foreground{traced})"

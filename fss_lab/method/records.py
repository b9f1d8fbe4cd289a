"""What goes into FSSAM and what comes out: options, encoded episodes, outputs, remembered supports, predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fss_lab.backbones.sam2 import ImageFeatures, Memory, Sam2Backbone
from fss_lab.errors import InputError
from fss_lab.method import calibration, refinement
from fss_lab.method.prompts import Priors
from fss_lab.method.trace import Trace, map_tensors


@dataclass(frozen=True)
class Options:
    """What an FSSAM does; the defaults are the paper's method.

    memory: "pseudo" (support memories and a pseudo memory of the query) or "support" (the baseline the paper
        starts from: support memories and pointers only, SAM 2's own attention; the options below have no
        effect).
    prior: the mask that becomes the pseudo memory: "discriminative", "foreground" (both from PPG), or "truth"
        (the query's own mask: an upper bound; never refined).
    rounds: rounds of refinement (IMR), 0 or more. refinement: "v1", or "v2" (weights stretched to 0..1).
    calibration: "corrected", "averaged", "as_published" or "off" (SCMA; see `calibration.CalibratedCrossAttention`).

    Raises InputError for any other value.
    """

    memory: str = "pseudo"
    prior: str = "discriminative"
    rounds: int = 3
    refinement: str = "v1"
    calibration: str = "corrected"

    def __post_init__(self) -> None:
        choices = {
            "memory": ("pseudo", "support"),
            "prior": ("discriminative", "foreground", "truth"),
            "refinement": refinement.VARIANTS,
            "calibration": calibration.MODES,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        if not isinstance(self.rounds, int) or isinstance(self.rounds, bool) or self.rounds < 0:
            raise InputError(f"rounds must be an integer of 0 or more, got {self.rounds!r}")


@dataclass(frozen=True)
class Encoded:
    """All that frozen networks say about B episodes. Tensors start with B.

    query: image features, batch B.
    support: image features of shape (B, K, ...), or None if `support_memory` is given.
    support_masks: (B, K, S, S) in {0, 1} at the model's image size.
    priors: None without a feature extractor.
    query_masks: (B, 1, S, S) in {0, 1}, or None where nobody knows them.
    support_memory: memories made before, of shape (B, K, ...).
    """

    query: ImageFeatures
    support: ImageFeatures | None
    support_masks: Tensor
    priors: Priors | None
    query_masks: Tensor | None = None
    support_memory: Memory | None = None

    def __len__(self) -> int:
        return len(self.support_masks)

    def __getitem__(self, index: slice | Tensor | Sequence[int]) -> Encoded:
        """Select episodes by a slice, a list or an index tensor."""
        return map_tensors(lambda x: x[index], self)


@dataclass(frozen=True)
class Output:
    """What a forward pass gives.

    logits: (B, S, S) at the model's image size, threshold 0.
    low_res_logits: the same mask before upsampling, (B, 1, S/4, S/4).
    ious: predicted IoU of the three candidates, (B, 3).
    trace: see `fss_lab.method.trace`.
    """

    logits: Tensor
    low_res_logits: Tensor
    ious: Tensor
    trace: Trace | None = None


@dataclass(frozen=True)
class Support:
    """K remembered supports, ready for any number of queries. Made by `FSSAM.remember`.

    memory: batch K. masks: (K, S, S) in {0, 1}. features: dense features (K, c, hf, wf) or None.
    sam2: the backbone that remembered; only models that share it can use the result. It belongs to the weights that
    made it: remember again after training or loading others.
    """

    memory: Memory
    masks: Tensor
    features: Tensor | None
    sam2: Sam2Backbone

    def __repr__(self) -> str:
        return f"Support({len(self)} remembered, {self.masks.shape[-2]} x {self.masks.shape[-1]})"

    def __len__(self) -> int:
        return len(self.masks)


@dataclass(frozen=True)
class Prediction:
    """A segmentation at the query's original size, on the CPU.

    mask: bool (H, W), probability > 0.5. probability: float (H, W) in 0..1. logits: float (H, W).
    trace: the forward pass (batch 1, on the model's device), if asked for.
    """

    mask: Tensor
    probability: Tensor
    logits: Tensor
    trace: Trace | None = None

    def __repr__(self) -> str:
        height, width = self.mask.shape
        traced = ", traced" if self.trace else ""
        return f"Prediction({height} x {width}, {self.mask.float().mean():.0%} foreground{traced})"

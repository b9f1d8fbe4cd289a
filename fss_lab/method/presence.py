"""Is the class shown at all? A score from what SAM 2 and the prior say of a query anyway.

The method was trained on queries that show the class, and its prior has a best place in every photo. What is left of
the question is in numbers that the mask does not show: `EVIDENCE`. A `Presence` weighs them, fitted by
`benchmarks/presence.py` on photos with and without the class, half of each. Then 0.5 means even odds.

Without a fit the score is SAM 2's own, the sigmoid of its object score. At 0.5 SAM 2 itself would call the object
hidden. For the toy that is almost no help: on novel classes the area under its ROC curve is 0.62, that of `likeness`,
which the toy's fit uses, 0.95 (`docs/images/presence.png`).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from fss_lab.errors import DataError
from fss_lab.files import write_atomically
from fss_lab.method.prompts import cosine_map, prototype, resize
from fss_lab.method.records import Output, Support

EVIDENCE = {
    "object_score": "SAM 2's logit of the object being visible",
    "predicted_iou": "the IoU that SAM 2 predicts for its mask",
    "prior_peak": "the cosine of the query's best place with the object of the support, before it is stretched",
    "prior_contrast": "how much better the best place fits the support's object than its background, in cosines",
    "likeness": "the cosine of what lies under the predicted mask with the support's object",
    "likeness_contrast": "that cosine, less the one with the support's background",
    "confidence": "the mean probability within the mask, 0 where there is none",
}
"""What a query says of the class's presence, by name. The last five are -1..1 or 0..1, means over the shots."""


def evidence(output: Output, dense: Tensor | None, support: Support | None) -> dict[str, float]:
    """The `EVIDENCE` of one query. Without SAM 2 or without dense features their parts are left out.

    output: of the query, batch 1. dense: the query's dense features (1, c, hf, wf). support: None for a click.
    """
    values, probability = {}, output.logits.float().sigmoid()[None]  # 1, 1, S, S
    inside = probability > 0.5
    if output.object_score is not None:
        values = {"object_score": output.object_score.max(), "predicted_iou": output.ious.max()}
    if dense is not None and support is not None and support.features is not None:
        mask = resize(support.masks.unsqueeze(1), support.features.shape[-2:])  # K, 1, hf, wf
        target, background = prototype(support.features, mask), prototype(support.features, 1 - mask)  # K, c, 1, 1
        likeness, against = cosine_map(dense, target), cosine_map(dense, background)  # K, 1, hf, wf
        answer = prototype(dense, resize(probability, dense.shape[-2:]))  # 1, c, 1, 1
        values["prior_peak"] = likeness.amax((1, 2, 3)).mean()
        values["prior_contrast"] = (likeness - against).amax((1, 2, 3)).mean()
        values["likeness"] = cosine_map(answer, target).mean()
        values["likeness_contrast"] = values["likeness"] - cosine_map(answer, background).mean()
    values["confidence"] = (probability * inside).sum() / inside.sum().clamp(min=1)
    return {name: float(value) for name, value in values.items()}


@dataclass(frozen=True)
class Presence:
    """The logistic function that makes a score of the evidence.

    weights: of the evidence, by name. intercept: added to the weighted sum. about: what it was fitted on, and how.
    """

    weights: dict[str, float]
    intercept: float
    about: str

    def score(self, evidence: Mapping[str, float]) -> float:
        """In 0..1, that the class is shown. Raises KeyError for evidence that is not there."""
        return sigmoid(self.intercept + sum(weight * evidence[name] for name, weight in self.weights.items()))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON. Raises FileError where the file cannot be written."""
        write_atomically(path, (json.dumps(asdict(self), indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Presence:
        """What `save` wrote. Raises DataError, which names the file, for any other content, FileNotFoundError."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            presence = cls(**content)
            numbers = [presence.intercept, *presence.weights.values()]
            if not set(presence.weights) <= set(EVIDENCE) or not all(map(math.isfinite, numbers)):
                raise ValueError(f"weights are finite numbers of {', '.join(EVIDENCE)}")
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path} holds no score of presence ({error}); fit one with benchmarks/presence.py"
            ) from error
        return presence


def score(evidence: Mapping[str, float], presence: Presence | None) -> float:
    """In 0..1: by the fit, or without one SAM 2's own; 0.5, for "nobody knows", where SAM 2 was not asked."""
    return sigmoid(evidence.get("object_score", 0.0)) if presence is None else presence.score(evidence)


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x)"""
    return 0.5 * (1 + math.tanh(x / 2))

"""Eight images of 6 x 6 pixels with three classes, small enough to check protocols by hand, and a model that fits."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fss_lab.episode import EpisodeBatch
from fss_lab.method.options import Options
from fss_lab.method.records import Encoded, EpisodeFeatures, Output

SHOWN = {"a": (3,), "b": (3, 5), "c": (), "d": (5,), "e": (3, 5), "f": (5,), "g": (3, 4), "h": (4, 5)}


class TinyImages:
    """Image number i is a grey level of 10 (i + 1), with class c in row c - 3 of every other column, a bit brighter.

    Column 5 is ignored. Image "c" shows nothing.
    """

    name, fold, split, classes = "tiny", 1, "novel", (3, 4, 5)

    def __init__(self, class_uniform: bool = False, without: str = "") -> None:
        self.class_uniform = class_uniform
        self.names = tuple(name for name in SHOWN if name not in without)

    def counts_for(self, name: str) -> tuple[int, ...]:
        return SHOWN[name]

    def label(self, name: str) -> Tensor:
        label = torch.zeros(6, 6, dtype=torch.uint8)
        for class_id in SHOWN[name]:
            label[class_id - 3, ::2] = class_id + 1
        label[:, 5] = 255
        return label

    def image(self, name: str) -> Tensor:
        level = 10 * (list(SHOWN).index(name) + 1)
        return (level + 2 * self.label(name).clamp(max=7)).expand(3, 6, 6).clone()

    def class_name(self, class_id: int) -> str:
        return {3: "cat", 4: "dog", 5: "cow"}[class_id]


class Threshold(nn.Module):
    """Stands in for an FSSAM: foreground is what is brighter than the mean of query and supports plus `level`."""

    def __init__(self, level: float = 0.0, **options: object) -> None:
        super().__init__()
        self.options, self.features = Options(**options), None
        self.precision, self.chunk = "float32", None
        self.level = nn.Parameter(torch.tensor(level))
        self.sam2 = nn.Module()
        self.sam2.register_buffer("mean", torch.zeros(3, 1, 1))
        self.sam2.std, self.sam2.image_size, self.sam2.encoder_modules = torch.ones(3, 1, 1), 6, tuple

    def trainable_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield "level", self.level

    def extract(self, batch: EpisodeBatch, cache: object = None, priors: bool = True) -> EpisodeFeatures:
        return EpisodeFeatures(
            query=batch.query_images.float(),
            support=batch.support_images.float(),
            support_masks=batch.support_masks.float(),
            priors=None,
            query_masks=None,
        )

    def encode(self, features: EpisodeFeatures) -> Encoded:
        return Encoded(features.query, features.support_masks, None, None, support_memory=features.support)

    def predict(self, encoded: Encoded) -> Output:
        images, supports = encoded.query.mean(1), encoded.support_memory.mean((1, 2, 3, 4))
        logits = images - (images.mean((1, 2)) + supports)[:, None, None] / 2 - self.level
        return Output(logits, logits.unsqueeze(1), logits[:, 0])

"""FSSAM (Xu et al., ICML 2025): few-shot segmentation with SAM 2's memory, composed of PPG, IMR and SCMA.

    episode --> extract (frozen) --> priors --> encode (memories) --> refinement --> calibrated attention --> mask

Every ablation is the same class with other `Options`; `FSSAM.variant` makes one without copying a weight.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from fss_lab.backbones.cache import FeatureCache
from fss_lab.backbones.sam2 import Memory, Sam2Backbone
from fss_lab.episode import EpisodeBatch
from fss_lab.errors import InputError
from fss_lab.method.calibration import CalibratedCrossAttention
from fss_lab.method.options import Options
from fss_lab.method.prompts import resize
from fss_lab.method.records import Encoded, EpisodeFeatures, Output
from fss_lab.method.refinement import Round, refine, support_similarity
from fss_lab.method.segmenting import Segmenting
from fss_lab.method.trace import Trace, map_tensors
from fss_lab.method.trainable import Trainable


class FSSAM(Trainable, Segmenting):
    """Segment in a query image what K support masks show.

    For tensors and training: `forward(batch)` is `predict(encode(batch))`.
    For people: `remember`, `segment`, `segment_classes` and `click`.
    """

    def __init__(
        self, sam2: Sam2Backbone, features: nn.Module | None, *, precision: str = "float32", **options: Any
    ) -> None:
        """sam2: the backbone; features: the frozen dense features of PPG, images (B, 3, H, W) in 0..255 to
        (B, c, hf, wf). None is possible where PPG is not needed (memory="support" or prior="truth").
        precision: of the frozen encoders' arithmetic, "float32" or "bfloat16" (autocast; faster where the hardware
        has it, and the features lose digits, see docs/speed.md). options: see `Options`. Raises InputError for a
        value that is not allowed, TypeError for an option that does not exist.
        """
        super().__init__(sam2, features, precision)
        self.options = Options(**options)
        self.eval()

    def variant(self, **changes: Any) -> FSSAM:
        """The same networks with other options, e.g. `model.variant(calibration="off", rounds=0)`.

        No weight is copied: training one trains the other. Under other options the score of a prediction is SAM 2's
        own, for it was fitted under these. Raises InputError or TypeError for what `Options` refuses.
        """
        other = copy.copy(self)
        other.options = replace(self.options, **changes)
        if other.options != self.options:
            other.presence = None
        return other

    # -- tensors in, tensors out --

    def forward(self, batch: EpisodeBatch, trace: bool = False) -> Output:
        """Segment the queries of a batch. See `encode` and `predict`."""
        return self.predict(self.encode(batch), trace=trace)

    def encode(
        self, episodes: EpisodeBatch | EpisodeFeatures, cache: FeatureCache | None = None, *, priors: bool = True
    ) -> Encoded:
        """Remember the supports with their masks. Differentiable: the memory encoder is trained.

        episodes: a batch, of which `extract` makes the features first, or features that a model with the same frozen
        networks has extracted before. cache, priors: as in `extract`, which does not run again on features.
        """
        if isinstance(episodes, EpisodeBatch):
            episodes = self.extract(episodes, cache, priors=priors)
        b, k = episodes.support_masks.shape[:2]
        flat = map_tensors(lambda x: x.flatten(0, 1), episodes.support)
        memory = self.sam2.remember(flat, episodes.support_masks.flatten(0, 1).unsqueeze(1))
        return Encoded(
            query=episodes.query, support_masks=episodes.support_masks, priors=episodes.priors,
            query_masks=episodes.query_masks, support_memory=map_tensors(lambda x: x.unflatten(0, (b, k)), memory),
        )  # fmt: skip

    def predict(self, encoded: Encoded, trace: bool = False) -> Output:
        """Everything after the supports' memories: remember the query, refine, attend, decode. Differentiable.

        trace: also return every tensor of every step (`Output.trace`).
        Raises InputError if the options need a prior or a query mask that `encoded` lacks, or leave nothing to trace.
        """
        if self.options.memory == "none":
            return self._prior_alone(encoded, trace)
        options, sam2, support = self.options, self.sam2, encoded.support_memory
        grid = (sam2.grid_size, sam2.grid_size)
        masks_refine = resize(encoded.support_masks, grid)
        masks_attention = F.interpolate(encoded.support_masks, grid, mode="nearest")
        shots = range(encoded.support_masks.shape[1])
        memories = [(support.memory[:, i], support.position[:, i]) for i in shots]
        pointers = [support.pointer[:, i] for i in shots]

        # the query's pseudo memory (PPG), refined (IMR)
        pseudo = prior = foreground = similarity = None
        rounds: list[Round] = []
        if options.guesses:
            prior = self._prior(encoded, options.prior)
            pseudo = sam2.remember(encoded.query, prior)
            if options.rounds > 0 and options.prior != "truth":
                foreground, similarity, rounds = self._refine(encoded, pseudo, prior, masks_refine, trace)
            memories.append((rounds[-1].memory if rounds else pseudo.memory, pseudo.position))
            pointers.append(pseudo.pointer)

        # attention to the memories, calibrated by the supports (SCMA)
        tokens = sam2.memory_tokens(memories, pointers)
        mode = options.calibration if options.guesses else "off"
        attention = CalibratedCrossAttention(masks_attention, mode, explicit=trace)
        stock = mode == "off" and not trace  # SAM 2's own fused attention, unless somebody wants to look inside
        attended = sam2.attend(encoded.query, tokens, None if stock else attention)
        decoded = sam2.decode(attended, encoded.query)
        size = encoded.support_masks.shape[-2:]
        logits = F.interpolate(decoded.low_res_logits, size, mode="bilinear", align_corners=False)
        output = Output(logits.squeeze(1), decoded.low_res_logits, decoded.ious, decoded.object_score)
        if not trace:
            return output
        traced = Trace(
            priors=encoded.priors, support_masks=encoded.support_masks, support_masks_refine=masks_refine,
            support_masks_attention=masks_attention, support_memory=support, foreground_memory=foreground,
            pseudo_memory=pseudo, pseudo_prior=prior, support_similarity=similarity, rounds=rounds, tokens=tokens,
            layers=attention.layers, attended=attended, decoded=decoded,
            features=encoded.query, calibration=mode,
        )  # fmt: skip
        return replace(output, trace=traced)

    def _prior(self, encoded: Encoded, name: str) -> Tensor:
        """A mask that can become a memory of the query, by its name in `Options.prior`: (B, 1, S, S) in 0..1."""
        if name == "truth":
            if encoded.query_masks is None:
                raise InputError(
                    'prior="truth" needs the query\'s true mask: segment an Episode, or take another prior'
                )
            return encoded.query_masks
        if encoded.priors is None:
            raise InputError(
                "these options need priors, but the episodes were encoded without a feature extractor: "
                'build FSSAM with one, or use memory="support"'
            )
        return getattr(encoded.priors, name)

    def _prior_alone(self, encoded: Encoded, trace: bool) -> Output:
        """The prior as the answer, made logits as SAM 2's memory encoder makes a mask (Sec. 2): 0 where it is ½."""
        if trace:
            raise InputError('memory="none" runs no SAM 2, so there is nothing to trace; trace memory="pseudo"')
        logits = 20 * self._prior(encoded, self.options.prior) - 10
        small = F.interpolate(logits, scale_factor=0.25, mode="bilinear", align_corners=False)
        return Output(logits.squeeze(1), small, logits.new_zeros(len(logits), 3))

    def _refine(
        self, encoded: Encoded, pseudo: Memory, prior: Tensor, masks: Tensor, pointer: bool
    ) -> tuple[Memory | None, Tensor, list[Round]]:
        """Mem_fg, A and the rounds of IMR. masks: (B, K, h, w); pointer: make Mem_fg with its object pointer, which
        nothing but a trace needs, else only what is refined with."""
        foreground, prior_fg = None, self._prior(encoded, "foreground")
        if pointer:
            foreground = self.sam2.remember(encoded.query, prior_fg)
            memory_fg = foreground.memory
        else:
            memory_fg = self.sam2.remember_without_pointer(encoded.query, prior_fg)
        similarity = support_similarity(memory_fg, encoded.support_memory.memory, masks)
        small, small_fg = (resize(mask, masks.shape[-2:]) for mask in (prior, prior_fg))
        options = self.options
        rounds = refine(pseudo.memory, small, memory_fg, small_fg, similarity, options.rounds, options.refinement)
        return foreground, similarity, rounds

"""FSSAM (Xu et al., ICML 2025): few-shot segmentation with SAM 2's memory, composed of PPG, IMR and SCMA.

    episode --> encode (frozen) --> priors --> memories --> refinement --> calibrated attention --> mask

Every ablation is the same class with other `Options`; `FSSAM.variant` makes one without copying a weight.
"""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fss_lab.backbones.cache import FeatureCache, Features
from fss_lab.backbones.sam2 import ImageFeatures, Memory, Sam2Backbone
from fss_lab.episode import Episode, EpisodeBatch
from fss_lab.errors import InputError
from fss_lab.images import Source, as_list, load_image, load_mask
from fss_lab.method import calibration, refinement
from fss_lab.method.prompts import Priors, generate_priors, resize
from fss_lab.method.records import Encoded, Options, Output, Prediction, Support
from fss_lab.method.trace import Trace, map_tensors

TRAINABLE = ("paper", "memory_encoder", "as_published")
PRECISIONS = ("float32", "bfloat16")


class FSSAM(nn.Module):
    """Segment in a query image what K support masks show.

    For tensors and training: `forward(batch)` is `predict(encode(batch))`.
    For people: `segment` and `remember`.
    """

    def __init__(
        self,
        sam2: Sam2Backbone,
        features: nn.Module | None,
        *,
        memory: str = "pseudo",
        prior: str = "discriminative",
        rounds: int = 3,
        refinement: str = "v1",
        calibration: str = "corrected",
        precision: str = "float32",
    ) -> None:
        """sam2: the backbone; features: the frozen dense features of PPG, images (B, 3, H, W) in 0..255 to
        (B, c, hf, wf). None is possible where PPG is not needed (memory="support" or prior="truth").
        The options: see `Options`. precision: of the frozen encoders' arithmetic, "float32" or "bfloat16" (autocast;
        faster where the hardware has it, and the features lose digits, see benchmarks/speed.py).
        Raises InputError for other values.
        """
        super().__init__()
        if precision not in PRECISIONS:
            raise InputError(f"precision must be one of {PRECISIONS}, got {precision!r}")
        self.sam2 = sam2
        self.features = features
        self.precision = precision
        self.chunk: int | None = None  # images an encoder sees at once; None: 1 on a CPU or with a cache, else all
        self.options = Options(memory, prior, rounds, refinement, calibration)
        self.eval()

    def variant(self, **changes: Any) -> FSSAM:
        """The same networks with other options, e.g. `model.variant(calibration="off", rounds=0)`.

        No weight is copied: training one trains the other. Raises TypeError or InputError as `Options`.
        """
        other = copy.copy(self)
        other.options = replace(self.options, **changes)
        return other

    # -- what is trained (Sec. Implementation Details of the paper) --

    def trained_modules(self) -> tuple[nn.Module, ...]:
        """Memory encoder, memory attention and mask decoder: what the paper trains; everything else is frozen."""
        model = self.sam2.model
        return model.memory_encoder, model.memory_attention, model.sam_mask_decoder

    def trainable_parameters(self, trainable: str | Sequence[str] = "paper") -> Iterator[tuple[str, nn.Parameter]]:
        """Names (of the SAM 2 state dict) and parameters to optimise.

        trainable: "paper": all `trained_modules`; "memory_encoder": that one alone; "as_published": what the published
            code really updates, norm scales, layer-scale gammas and tokens (it loses the gradients of linear and
            convolution layers in its autocast cache); or fnmatch patterns over the names, such as
            ["memory_attention.layers.3.*"], which may also reach other parts. The image encoder and the decoder's
            `conv_s0` and `conv_s1`, which belong to the image features, run without gradient and are never among them.

        Raises InputError for another word, and for a pattern that no name matches.
        """
        model = self.sam2.model
        able = {
            name: parameter
            for name, parameter in model.named_parameters()
            if not name.startswith("image_encoder.") and ".conv_s" not in name
        }
        if not isinstance(trainable, str):
            for pattern in trainable:
                if not any(fnmatch.fnmatchcase(name, pattern) for name in able):
                    raise InputError(
                        f"no parameter that can be trained matches {pattern!r}; names look like {next(iter(able))!r}, "
                        "and model.sam2.model.named_parameters() lists them (the image encoder is frozen)"
                    )
            return ((n, p) for n, p in able.items() if any(fnmatch.fnmatchcase(n, pattern) for pattern in trainable))
        if trainable not in TRAINABLE:
            raise InputError(f"trainable must be one of {TRAINABLE} or a list of name patterns, got {trainable!r}")
        modules = (model.memory_encoder,) if trainable == "memory_encoder" else self.trained_modules()
        owners = [owner for module in modules for owner in module.modules()]
        if trainable == "as_published":
            owners = [owner for owner in owners if not isinstance(owner, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
        chosen = {id(parameter) for owner in owners for parameter in owner.parameters(recurse=False)}
        return ((name, parameter) for name, parameter in able.items() if id(parameter) in chosen)

    def freeze(self, trainable: str | Sequence[str] = "paper") -> FSSAM:
        """Require gradients of `trainable_parameters` and of nothing else. Returns the model."""
        chosen = [parameter for _, parameter in self.trainable_parameters(trainable)]
        self.requires_grad_(False)
        for parameter in chosen:
            parameter.requires_grad_(True)
        return self

    def train(self, mode: bool = True) -> FSSAM:
        """Training mode (dropout) for those of `trained_modules` that require a gradient; the rest stays in
        evaluation mode."""
        super().train(mode)
        for child in self.children():
            child.eval()
        for module in self.trained_modules():
            module.train(mode and any(parameter.requires_grad for parameter in module.parameters()))
        return self

    # -- tensors in, tensors out --

    def forward(self, batch: EpisodeBatch, trace: bool = False) -> Output:
        """Segment the queries of a batch. See `encode` and `predict`."""
        return self.predict(self.encode(batch), trace=trace)

    @torch.no_grad()
    def encode(self, batch: EpisodeBatch, cache: FeatureCache | None = None, *, priors: bool = True) -> Encoded:
        """Run the frozen networks on queries and supports, without gradient.

        priors: False saves the dense features where nothing needs a prior (memory="support"). cache: where features of
        images seen before are looked up; on a CPU the result is the same to the last bit with and without one
        (`fss_lab.backbones.cache` says more).
        Images and masks of another size are stretched to the model's. An empty support mask is no error here
        (it gives an empty prior); `segment` and `remember` refuse it.
        Raises InputError with a cache if an encoder is in training mode.
        """
        b, k = batch.support_images.shape[:2]
        images = [*batch.query_images, *batch.support_images.flatten(0, 1)]
        encoded, dense = self._encode_images(images, cache, dense=priors)
        support_masks = self._fit_masks(batch.support_masks)
        guess = None
        if dense is not None:
            guess = generate_priors(dense[:b], dense[b:].unflatten(0, (b, k)), support_masks)
        return Encoded(
            query=encoded[:b],
            support=map_tensors(lambda x: x.unflatten(0, (b, k)), encoded[b:]),
            support_masks=support_masks,
            priors=guess,
            query_masks=self._fit_masks(batch.query_masks.unsqueeze(1)),
        )

    def predict(self, encoded: Encoded, trace: bool = False) -> Output:
        """Everything after the frozen networks: remember, refine, attend, decode. Differentiable.

        trace: also return every tensor of every step (`Output.trace`).
        Raises InputError if the options need a prior or a query mask that `encoded` lacks.
        """
        options, sam2 = self.options, self.sam2
        k = encoded.support_masks.shape[1]
        grid = (sam2.grid_size, sam2.grid_size)
        masks_refine = resize(encoded.support_masks, grid)
        masks_attention = F.interpolate(encoded.support_masks, grid, mode="nearest")

        support = self._support_memory(encoded)  # B, K, ...
        memories = [(support.memory[:, i], support.position[:, i]) for i in range(k)]
        pointers = [support.pointer[:, i] for i in range(k)]

        pseudo = foreground = prior = similarity = None
        rounds: list[refinement.Round] = []
        if options.memory == "pseudo":
            prior = self._prior(encoded)
            pseudo = sam2.remember(encoded.query, prior)
            if options.rounds > 0 and options.prior != "truth":
                foreground_prior = self._priors(encoded).foreground
                if trace:
                    foreground = sam2.remember(encoded.query, foreground_prior)
                    foreground_memory = foreground.memory
                else:
                    foreground_memory = sam2.remember_without_pointer(encoded.query, foreground_prior)
                similarity = refinement.support_similarity(foreground_memory, support.memory, masks_refine)
                rounds = refinement.refine(
                    pseudo.memory,
                    resize(prior, grid),
                    foreground_memory,
                    resize(foreground_prior, grid),
                    similarity,
                    options.rounds,
                    options.refinement,
                )
            memories.append((rounds[-1].memory if rounds else pseudo.memory, pseudo.position))
            pointers.append(pseudo.pointer)

        tokens = sam2.memory_tokens(memories, pointers)
        mode = options.calibration if options.memory == "pseudo" else "off"
        # SAM 2's own fused attention needs no help of ours, unless somebody wants to look inside
        cross_attention = (
            None
            if mode == "off" and not trace
            else calibration.CalibratedCrossAttention(masks_attention, mode, explicit=trace)
        )
        attended = sam2.attend(encoded.query, tokens, cross_attention)
        decoded = sam2.decode(attended, encoded.query)
        logits = F.interpolate(
            decoded.low_res_logits, encoded.support_masks.shape[-2:], mode="bilinear", align_corners=False
        )
        traced = None
        if trace and cross_attention is not None:
            traced = Trace(
                priors=encoded.priors,
                support_masks=encoded.support_masks,
                support_masks_refine=masks_refine,
                support_masks_attention=masks_attention,
                support_memory=support,
                foreground_memory=foreground,
                pseudo_memory=pseudo,
                pseudo_prior=prior,
                support_similarity=similarity,
                rounds=rounds,
                tokens=tokens,
                layers=cross_attention.layers,
                attended=attended,
                decoded=decoded,
            )
        return Output(logits.squeeze(1), decoded.low_res_logits, decoded.ious, traced)

    # -- for people --

    @torch.no_grad()
    def remember(
        self, images: Source | Sequence[Source], masks: Source | Sequence[Source], *, cache: FeatureCache | None = None
    ) -> Support:
        """Look at K labelled supports once, for any number of queries.

        images, masks: one each, or K of them: paths, PIL images, arrays or tensors (`fss_lab.images`; there a
        mask of only 0 and 255 means 255 = foreground, next to 1 it means ignore). Each mask has its image's
        size; sizes may differ between shots. The model must be in evaluation mode for the result to be
        reproducible (it is, unless `train()` was called). cache: as in `encode`.

        Raises InputError for no support, unequal numbers, unequal sizes, or a mask without any foreground;
        and whatever `load_image` and `load_mask` raise.
        """
        image_list, mask_list = as_list(images, dims=3), as_list(masks, dims=2)
        if len(image_list) != len(mask_list) or not image_list:
            raise InputError(
                f"expected as many support masks as images, at least one, got {len(image_list)} images and "
                f"{len(mask_list)} masks"
            )
        return self._remember(
            [load_image(image) for image in image_list], [load_mask(mask) for mask in mask_list], cache
        )

    @torch.no_grad()
    def segment(
        self,
        query: Source | Episode,
        support: Support | tuple[Any, Any] | Episode | None = None,
        *,
        trace: bool = False,
        cache: FeatureCache | None = None,
    ) -> Prediction:
        """Segment a query image of any size.

        query: an image (path, PIL image, array, tensor), or an `Episode`, which brings its own supports.
        support: a `Support` from `remember`, a pair (images, masks) as `remember` takes it, or an `Episode`
        whose supports are to be used.
        trace: also return every tensor of the forward pass. cache: as in `encode`.

        Raises InputError or TypeError for anything else, and whatever `remember` raises.
        """
        truth = None
        if isinstance(query, Episode):
            support = query if support is None else support
            image, truth = query.query_image, query.query_mask
        else:
            image = load_image(query)
        if isinstance(support, Episode):
            support = self._remember(list(support.support_images), list(support.support_masks), cache)
        elif isinstance(support, tuple) and len(support) == 2:
            support = self.remember(*support, cache=cache)
        if not isinstance(support, Support):
            raise TypeError(
                "expected support to be a Support from remember(), a pair (images, masks) or an Episode, "
                f"got {type(support).__name__}"
            )
        if support.sam2 is not self.sam2:
            raise InputError("this Support was remembered by another model; call remember() of the model that segments")
        encoded, dense = self._encode_images([image], cache)
        priors = None
        if dense is not None and support.features is not None:
            priors = generate_priors(dense, support.features.unsqueeze(0), support.masks.unsqueeze(0))
        output = self.predict(
            Encoded(
                query=encoded,
                support=None,
                support_masks=support.masks.unsqueeze(0),
                priors=priors,
                query_masks=None if truth is None else self._fit_masks(truth[None, None]),
                support_memory=map_tensors(lambda x: x.unsqueeze(0), support.memory),
            ),
            trace=trace,
        )
        logits = resize(output.logits.unsqueeze(1).float(), image.shape[-2:])[0, 0].cpu()
        probability = logits.sigmoid()
        return Prediction(probability > 0.5, probability, logits, output.trace)

    # -- helpers --

    @property
    def device(self) -> torch.device:
        """Where the weights lie; images are moved there."""
        return self.sam2.mean.device

    def _remember(self, images: list[Tensor], masks: list[Tensor], cache: FeatureCache | None) -> Support:
        """images: K of (3, H, W); masks: K of (H, W) with 0, 1, 255."""
        fitted = []
        for shot, (image, mask) in enumerate(zip(images, masks, strict=True)):
            if image.shape[-2:] != mask.shape:
                raise InputError(
                    f"support {shot}: the image has {tuple(image.shape[-2:])} pixels and its mask "
                    f"{tuple(mask.shape)}; give the mask of this image at the same size"
                )
            if not (mask == 1).any():
                raise InputError(
                    f"support {shot}: the mask has no foreground pixel (value 1; 255 is ignored); mark the "
                    "object of the class in it"
                )
            fitted.append(self._fit_masks(mask[None, None])[0])
            if not fitted[-1].any():
                raise InputError(
                    f"support {shot}: the object is so small that it vanishes when the image is resized to "
                    f"{self.sam2.image_size} pixels; crop the support closer to the object"
                )
        encoded, dense = self._encode_images(images, cache)
        return Support(self.sam2.remember(encoded, torch.stack(fitted)), torch.cat(fitted), dense, self.sam2)

    def _encode_images(
        self, images: Sequence[Tensor], cache: FeatureCache | None = None, dense: bool = True
    ) -> tuple[ImageFeatures, Tensor | None]:
        """images: N of (3, H, W) in 0..255. Returns SAM 2's features and, if wanted, PPG's dense ones, batch N."""
        # One by one for a cache: else the features would depend on how many others it lacks.
        chunk = self.chunk or (len(images) if cache is None and self.device.type != "cpu" else 1)
        run = partial(self._run_encoders, chunk=chunk, dense=dense)
        if cache is None:
            found = run(images)
        else:
            networks = [*self.sam2.encoder_modules(), *([self.features] if dense and self.features is not None else [])]
            settings = {"image size": self.sam2.image_size, "precision": self.precision, "chunk": chunk}
            found = cache.fetch(images, networks, settings, self.device, run)
        top = found["top"]
        return ImageFeatures(top, self.sam2.position_code(top), (found["finer"], found["fine"])), found.get("dense")

    def _run_encoders(self, images: Sequence[Tensor], chunk: int, dense: bool) -> Features:
        """What a `FeatureCache` keeps of N images: "top", "finer", "fine" and, with a feature extractor and if it is
        wanted, "dense". chunk: images that an encoder sees at once."""
        features = self.features if dense else None
        fitted = [self._fit_images(image.unsqueeze(0)) for image in images]
        with torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bfloat16" else nullcontext():
            encoded = [self.sam2.encode(part) for part in _in_chunks(fitted, chunk)]
            if features is not None:
                # without weights it is no network but, say, a table of stored features that wants all images
                learned = any(True for _ in features.parameters())
                described = [features(part) for part in _in_chunks(fitted, chunk if learned else len(fitted))]
        parts = {"top": [each.top for each in encoded]}
        parts |= {name: [each.high_res[i] for each in encoded] for i, name in enumerate(("finer", "fine"))}
        if features is not None:
            parts["dense"] = described
        # of one layout, for a sum in another order would round differently
        found = {name: torch.cat(tensors).contiguous() for name, tensors in parts.items()}
        if self.precision == "bfloat16":
            found = {name: tensor.to(self.sam2.mean.dtype) for name, tensor in found.items()}
        return found

    def _fit_images(self, images: Tensor) -> Tensor:
        size = self.sam2.image_size
        return resize(images.to(self.device, self.sam2.mean.dtype), (size, size))

    def _fit_masks(self, masks: Tensor) -> Tensor:
        """masks: (B, K, H, W) with 0, 1, 255 -> (B, K, S, S) in {0, 1}; ignored pixels count as
        background."""
        binary = (masks == 1).to(self.device, self.sam2.mean.dtype)
        return F.interpolate(binary, (self.sam2.image_size, self.sam2.image_size), mode="nearest")

    def _support_memory(self, encoded: Encoded) -> Memory:
        """The supports' memories, (B, K, ...)."""
        if encoded.support_memory is not None:
            return encoded.support_memory
        if encoded.support is None:
            raise InputError("these encoded episodes hold neither support features nor support memories")
        b, k = encoded.support_masks.shape[:2]
        flat = map_tensors(lambda x: x.flatten(0, 1), encoded.support)
        memory = self.sam2.remember(flat, encoded.support_masks.flatten(0, 1).unsqueeze(1))
        return map_tensors(lambda x: x.unflatten(0, (b, k)), memory)

    def _priors(self, encoded: Encoded) -> Priors:
        if encoded.priors is None:
            raise InputError(
                "these options need priors, but the episodes were encoded without a feature extractor: "
                'build FSSAM with one, or use memory="support"'
            )
        return encoded.priors

    def _prior(self, encoded: Encoded) -> Tensor:
        """The mask that becomes the pseudo memory, (B, 1, S, S) in 0..1."""
        if self.options.prior != "truth":
            return getattr(self._priors(encoded), self.options.prior)
        if encoded.query_masks is None:
            raise InputError('prior="truth" needs the query\'s own mask: segment an Episode, or choose another prior')
        return encoded.query_masks


def _in_chunks(images: list[Tensor], size: int) -> Iterator[Tensor]:
    """images: N of (1, 3, S, S) -> batches of at most `size`."""
    for start in range(0, len(images), size):
        yield torch.cat(images[start : start + size])

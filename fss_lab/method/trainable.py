"""What is trained (Sec. Implementation Details of the paper): sets of parameters, their gradients, their mode."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from torch import nn

from fss_lab.backbones.sam2 import Sam2Backbone
from fss_lab.errors import InputError
from fss_lab.method.options import TRAINABLE

if TYPE_CHECKING:
    from typing_extensions import Self


class Trainable(nn.Module):
    """A model around SAM 2 of which some parts are trained and the others stay frozen."""

    sam2: Sam2Backbone

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

    def freeze(self, trainable: str | Sequence[str] = "paper") -> Self:
        """Require gradients of `trainable_parameters` and of nothing else. Returns the model."""
        chosen = [parameter for _, parameter in self.trainable_parameters(trainable)]
        self.requires_grad_(False)
        for parameter in chosen:
            parameter.requires_grad_(True)
        return self

    def train(self, mode: bool = True) -> Self:
        """Training mode (dropout) for those of `trained_modules` that require a gradient; the rest stays in
        evaluation mode."""
        super().train(mode)
        for child in self.children():
            child.eval()
        for module in self.trained_modules():
            module.train(mode and any(parameter.requires_grad for parameter in module.parameters()))
        return self

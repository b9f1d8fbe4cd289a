"""Calibrated attention step by step, right or with one mistake: what exercise 6.5 compares answers with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fss_lab.method import calibration
from fss_lab.method.prompts import min_max

ATTENTION_MISTAKES = {
    "off": "you do not calibrate: the query memory keeps its full weight.",
    "aside": "your supports stand side by side; average their keys and values to one block before the softmax.",
    "aside, off": "your supports stand side by side and nothing is calibrated.",
    "supports": "your bias falls on the supports; only the columns of the query memory get it.",
    "pointers": "your bias falls on the pointers too; only the columns of the query memory get it.",
    "after": "your bias is added after the softmax; add it to the logits.",
    "no pointers": "your pointers are left out; they are the last columns and take part in the softmax.",
    "sum": "your support block is the sum of the shots' keys and values; take the mean.",
    "three": "you take a softmax of each part; join the three parts of the logits, then take one softmax over all.",
    "three, mean": "you take a softmax of each part and average the results; join the logits, then take one softmax.",
    "first": "your support block holds the first support only; take the mean over all of them.",
    "first judge": "your c is that of the first support only; all visible supports judge.",
    "average judge": "your c compares with the shots' averaged keys; every support judges with its own, before "
    "the average.",
    "average judge, one mask": "your c compares with the shots' averaged keys under their averaged mask; every support "
    "judges with its own keys and its own mask, before the average.",
    "vanished": "your supports that vanish on the grid judge too; where none is visible c is 1 and the bias 0.",
    "unscaled": "your logits are not divided by √d.",
    "whole rows": "your ā is stretched over the columns of supports and pointers too; only over the query memory's.",
}
"""What `attend` can do wrong, and the diagnosis."""


def attend(q: Tensor, k: Tensor, v: Tensor, masks: Tensor, mistake: str = "") -> Tensor:
    """Step by step, right or with one of `ATTENTION_MISTAKES`."""
    n, shots = q.shape[2], masks.shape[1]
    judges = 1 if mistake == "first judge" else shots
    blocks = k.detach()[:, :, : shots * n].unflatten(2, (shots, n))[:, :, :judges]
    if "average judge" in mistake:
        blocks = blocks.mean(2, keepdim=True).expand(blocks.shape)
    if "one mask" in mistake:
        masks = masks.mean(1, keepdim=True).expand(masks.shape)
    value = calibration.shot_similarity(k.detach()[:, :, shots * n : (shots + 1) * n], blocks, masks[:, :judges])
    term = value.mean(2) if mistake == "vanished" else calibration.calibration_term(value, masks[:, :judges])
    if "aside" not in mistake:
        factor = shots if mistake == "sum" else 1
        rest = [x[:, :, shots * n :] for x in (k, v)]
        k, v = (factor * calibration.average_shots(x, shots, n)[:, :, :n] if mistake != "first" else x[:, :, :n]
                for x in (k, v))  # fmt: skip
        k, v, shots = torch.cat([k, rest[0]], 2), torch.cat([v, rest[1]], 2), 1
    logits = q @ k.mT / (1 if mistake == "unscaled" else math.sqrt(q.shape[-1]))
    memory = slice(shots * n, (shots + 1) * n)
    bias = torch.zeros_like(logits)
    bias[..., memory] = calibration.calibration_bias(logits[..., memory], term)
    if mistake == "whole rows":
        stretched = min_max(logits.detach(), dim=(-1,))[..., memory]
        bias[..., memory] = 10 * (stretched + term.flatten(-2).unsqueeze(-2) - 1).clamp(max=0)
    elif mistake == "supports":
        bias = bias.roll(-n, -1)
    elif mistake == "pointers":
        bias[..., memory.stop :] = bias[..., memory].mean(-1, keepdim=True)
    elif "off" in mistake:
        bias = bias * 0
    if mistake == "after":
        return (logits.softmax(-1) + bias) @ v
    logits = logits + bias
    if mistake == "no pointers":
        return logits[..., : memory.stop].softmax(-1) @ v[:, :, : memory.stop]
    if mistake.startswith("three"):
        sizes = [n, n, logits.shape[-1] - 2 * n]
        parts = [x.softmax(-1) @ y for x, y in zip(logits.split(sizes, -1), v.split(sizes, 2), strict=True)]
        return torch.stack(parts).mean(0) if "mean" in mistake else torch.stack(parts).sum(0)
    return logits.softmax(-1) @ v

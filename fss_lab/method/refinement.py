"""Iterative Memory Refinement (Sec. IMR of the paper): repair the pseudo query memory. No parameters.

Where the query looks both like the support's object (A) and like the object guessed so far (B), the refined
memory takes over what the foreground memory says. Gradients flow through every round.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fss_lab.method.prompts import cosine_map, min_max, prototype


@dataclass(frozen=True)
class Round:
    """One round of refinement."""

    similarity: Tensor  # B, 1, h, w in 0..1: B of the paper
    weight: Tensor  # B, 1, h, w in 0..1: W
    memory: Tensor  # B, D, h, w: Mem_d after it
    prior: Tensor  # B, 1, h, w in 0..1: P_d after it


def support_similarity(foreground_memory: Tensor, support_memory: Tensor, support_masks: Tensor) -> Tensor:
    """A: where the query's foreground memory resembles the support's object, mean over shots.

    foreground_memory: (B, D, h, w); support_memory: (B, K, D, h, w); support_masks: (B, K, h, w) in 0..1.
    Returns (B, 1, h, w) in 0..1; a shot whose mask is empty at this size contributes 0.
    """
    prototypes = prototype(support_memory, support_masks.unsqueeze(2))  # B, K, D, 1, 1
    return min_max(cosine_map(foreground_memory.unsqueeze(1), prototypes)).mean(1)


def agreement(support_similarity: Tensor, guess_similarity: Tensor, variant: str = "v1") -> Tensor:
    """W: high only where A and B both are, max(0, A + B - 1); variant "v2" stretches it to 0..1.

    support_similarity (A), guess_similarity (B): (B, 1, h, w) in 0..1. Returns the same shape, 0..1.
    """
    weight = (support_similarity + guess_similarity - 1).clamp(min=0)
    return min_max(weight) if variant == "v2" else weight


def refine_once(
    memory: Tensor, prior: Tensor, foreground_memory: Tensor, foreground_prior: Tensor, support_similarity: Tensor,
    variant: str = "v1",
) -> Round:  # fmt: skip
    """One round of refinement.

    memory, foreground_memory: (B, D, h, w); prior, foreground_prior, support_similarity: (B, 1, h, w) in
    0..1. variant "v2" stretches the weight W to 0..1.
    """
    similarity = min_max(cosine_map(foreground_memory, prototype(memory, prior)))
    weight = agreement(support_similarity, similarity, variant)
    return Round(
        similarity=similarity,
        weight=weight,
        memory=weight * foreground_memory + (1 - weight) * memory,
        prior=min_max(weight * foreground_prior + (1 - weight) * prior),
    )


def refine(
    memory: Tensor, prior: Tensor, foreground_memory: Tensor, foreground_prior: Tensor, support_similarity: Tensor,
    rounds: int = 3, variant: str = "v1",
) -> list[Round]:  # fmt: skip
    """All rounds in order (none for rounds=0), as `refine_once`; the last one holds the refined memory."""
    done: list[Round] = []
    for _ in range(rounds):
        done.append(refine_once(memory, prior, foreground_memory, foreground_prior, support_similarity, variant))
        memory, prior = done[-1].memory, done[-1].prior
    return done

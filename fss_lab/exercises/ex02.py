"""Checks of notebook 02: the mask as memory sees it, attention, pointers as tokens, the memory bank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fss_lab.exercises.harness import ExerciseError, call, check_tensor, compare, exercise

Answer = Callable[..., Any]


@exercise()
def check_loud_mask(function: Answer) -> str:
    """Exercise 2.1: `loud_mask(mask)`. Raises ExerciseError with a diagnosis."""
    mask = torch.tensor([[0.0, 0.4, 0.5], [0.6, 0.9, 1.0]])
    compare(
        check_tensor(call(function, mask), mask.shape, "your loud mask"),
        [[-9.99909, -7.61594, 0.0], [7.61594, 9.99329, 9.99909]],
        "your loud mask",
        {
            "This is only the inner part, 20 m - 10, without sigmoid: 0.6 gives 2 and must give 7.6.": 20 * mask - 10,
            "The inner scale is missing: sigmoid of 20 m - 10, not of m.": 20 * mask.sigmoid() - 10,
            "The inner - 10 is missing: sigmoid(20 m) is at least 0.5 everywhere.": 20 * (20 * mask).sigmoid() - 10,
            "The outer - 10 is missing: the values must run from -10 to 10, yours run from 0 to 20.": (
                20 * (20 * mask - 10).sigmoid()
            ),
            "The outer 20 ... - 10 is missing: these are still probabilities from 0 to 1.": (20 * mask - 10).sigmoid(),
            "This is a hard cut at 0.5; the sigmoid is steep but smooth, and 0.6 gives 7.6.": 20.0 * (mask > 0.5) - 10,
            "This is a hard cut at 0.5; the sigmoid is steep but smooth, and 0.5 gives 0.": 20.0 * (mask >= 0.5) - 10,
        },
    )
    compare(call(function, torch.tensor(0.5)), 0.0, "your value for a mask of a single number, 0.5")
    return "From -10 to 10, and almost a step at 0.5."


@exercise()
def check_attention(function: Answer) -> str:
    """Exercise 2.2: `attention(q, k, v)`. Raises ExerciseError with a diagnosis."""
    q = torch.tensor([[2.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 2.0]])  # N = 2, d = 4
    k = torch.tensor([[2.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0]])  # L = 3
    v = torch.tensor([[1.0, 0.0], [0.0, 5.0], [0.0, 0.0]])  # L, e = 2
    answer = call(function, q, k, v)
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise ExerciseError("attention must return two tensors, the weights and what was read: (A, O).")
    if [getattr(value, "shape", None) for value in answer] == [(2, 2), (2, 3)]:
        raise ExerciseError("You return (O, A); the weights come first: (A, O).")
    weights = check_tensor(answer[0], (2, 3), "the weights A")
    products, cosines = q @ k.T, torch.cosine_similarity(q[:, None], k[None], dim=-1)
    high, low = 0.786986, 0.106507  # e^2 / (e^2 + 2) and 1 / (e^2 + 2)
    compare(
        weights,
        [[high, low, low], [low, high, low]],
        "the weights A",
        {
            "These are the products before the softmax, undivided.": products,
            "These are the logits; the softmax is missing.": products / 2,
            "The products are not divided by the square root of d = 4: they come out twice as large.": products.softmax(
                1
            ),
            "You divide by d; it must be the square root of d.": (products / 4).softmax(1),
            "You divide by the square root of L, the number of tokens; it must be that of d, the vectors' length.": (
                products / 3**0.5
            ).softmax(1),
            "You divide by the square root of N, the number of cells; it must be that of d, the vectors' length.": (
                products / 2**0.5
            ).softmax(1),
            "Your softmax runs over the N cells; it must run over the L tokens: each row of A adds up to 1.": (
                (products / 2).softmax(0)
            ),
            "Cosines instead of products: attention does not divide by the vectors' lengths.": cosines.softmax(1),
            "The weights are sigmoids; with softmax each row adds up to 1.": (products / 2).sigmoid(),
            "These are the exponentials, undivided; divide each row by its sum.": (products / 2).exp(),
            "One softmax over the whole table; each row needs its own: each row of A adds up to 1.": (
                (products / 2).flatten().softmax(0).reshape(2, 3)
            ),
        },
    )
    compare(
        check_tensor(answer[1], (2, 2), "what was read, O"),
        [[high, 5 * low], [low, 5 * high]],
        "what was read, O",
        {
            "You read the value of the best token only; O is the mean of all values, weighted by A.": v[:2],
            "You read the logits' sums of the values; multiply A, after the softmax, with v.": products / 2 @ v,
            "You read the keys; multiply A with the values v.": (products / 2).softmax(1) @ k[:, :2],
        },
    )
    weights, read = call(function, 3 * q, k, torch.ones(3, 1))
    compare(read, torch.ones(2, 1), "what is read where all values are 1")
    return "Similarity by product, shares by softmax, and a weighted mean of the values."


@exercise()
def check_pointer_tokens(function: Answer) -> str:
    """Exercise 2.3: `pointer_tokens(pointer, D)`. Raises ExerciseError with a diagnosis."""
    pointer = torch.tensor([[1.0, 2, 3, 4, 5, 6], [10, 20, 30, 40, 50, 60]])  # B = 2, C = 6
    interleaved = pointer.reshape(2, 2, 3).permute(2, 0, 1)
    answer = call(function, pointer, 2)
    if isinstance(answer, torch.Tensor) and answer.shape == (2, 3, 2):
        raise ExerciseError("Your tokens have the order (B, C / D, D); swap the first two axes: (C / D, B, D).")
    compare(
        check_tensor(answer, (3, 2, 2), "your tokens"),
        [[[1, 2], [10, 20]], [[3, 4], [30, 40]], [[5, 6], [50, 60]]],
        "your tokens",
        {
            "Pointers of different images are mixed: reshape to (B, C / D, D) first, then swap axes.": pointer.reshape(
                3, 2, 2
            ),
            "Your pieces take every third number; a token holds D numbers that follow each other.": interleaved,
            "Your pieces come in reverse order.": pointer.reshape(2, 3, 2).transpose(0, 1).flip(0),
        },
    )
    one = torch.arange(12.0)[None]
    compare(check_tensor(call(function, one, 4), (3, 1, 4), "your tokens for D = 4"), one.reshape(3, 1, 4), "D = 4")
    return "C / D tokens of D numbers each, and every image keeps its own."


@exercise()
def check_frames_to_read(function: Answer) -> str:
    """Exercise 2.4: `frames_to_read(t, recent)`. Raises ExerciseError with a diagnosis."""
    for t, recent, right in ((7, 3, [0, 4, 5, 6]), (2, 3, [0, 1]), (4, 3, [0, 1, 2, 3]), (1, 6, [0]), (5, 0, [0])):
        answer = call(function, t, recent)
        case = f"frames_to_read({t}, {recent}) gives {answer}"
        if not isinstance(answer, list) or not all(type(frame) is int for frame in answer):
            raise ExerciseError(f"{case}; it must be a list of ints.")
        if answer == right:
            continue
        if t in answer:
            raise ExerciseError(f"{case}: frame {t} is the current one and not remembered yet; stop at t - 1.")
        if 0 not in answer:
            raise ExerciseError(f"{case}: frame 0 is always read, its mask is the only one that is certain.")
        if len(set(answer)) < len(answer):
            raise ExerciseError(f"{case}: a frame is listed twice; near the start the latest frames reach frame 0.")
        if min(answer) < 0:
            raise ExerciseError(f"{case}: there is no frame before frame 0; cut the range at 1.")
        if recent == 0 or len(answer) > len(right):
            raise ExerciseError(f"{case}: only the latest {recent} beside frame 0 are needed.")
        if sorted(answer) == right:
            raise ExerciseError(f"{case}: the right frames, but not in ascending order.")
        if len(answer) < len(right):
            raise ExerciseError(f"{case}: there should be {recent} beside frame 0 (if so many are remembered).")
        raise ExerciseError(f"{case}; it must be {right}: frame 0 and the latest {recent}.")
    return "The certain frame, and the latest ones."

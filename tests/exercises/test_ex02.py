"""Notebook 02: right answers unlike the solutions pass, and wrong ones are told what is wrong."""

import pytest
import torch
from torch.nn import functional as F

from fss_lab.exercises import ExerciseError, ex02

# ---- 2.1


def test_loud_mask_by_tanh_passes():
    ex02.check_loud_mask(lambda m: 10 * torch.tanh(10 * m - 5))  # 2 sigmoid(2 z) - 1 = tanh(z)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda m: 20 * m - 10, "without sigmoid"),
        (lambda m: 20 * torch.sigmoid(m) - 10, "inner scale is missing"),
        (lambda m: 20 * torch.sigmoid(20 * m) - 10, "inner - 10 is missing"),
        (lambda m: 20 * torch.sigmoid(20 * m - 10), "outer - 10 is missing"),
        (lambda m: torch.sigmoid(20 * m - 10), "still probabilities"),
        (lambda m: 20 * (m > 0.5).float() - 10, "0.6 gives 7.6"),
        (lambda m: 20 * (m >= 0.5).float() - 10, "0.5 gives 0"),
        (lambda m: 20 * m.mul_(20).sub_(10).sigmoid() - 10, "changes its argument m"),
    ],
)
def test_loud_mask_gone_wrong(answer, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex02.check_loud_mask(answer)


# ---- 2.2


def test_attention_of_exponentials_passes():
    def answer(q, k, v):
        powers = torch.einsum("nd,ld->nl", q, k).div(k.shape[1] ** 0.5).exp()
        weights = powers / powers.sum(1, keepdim=True)
        return weights, torch.einsum("nl,le->ne", weights, v)

    ex02.check_attention(answer)


def weigh(logits, v):
    return logits, logits @ v


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda q, k, v: weigh((q @ k.T).softmax(-1), v), "not divided by the square root"),
        (lambda q, k, v: weigh((q @ k.T / q.shape[1]).softmax(-1), v), "You divide by d"),
        (lambda q, k, v: weigh((q @ k.T / len(k) ** 0.5).softmax(-1), v), "square root of L"),
        (lambda q, k, v: weigh((q @ k.T / len(q) ** 0.5).softmax(-1), v), "square root of N"),
        (lambda q, k, v: weigh((q @ k.T / 2).softmax(-1), v)[::-1], "the weights come first"),
        (lambda q, k, v: weigh((q @ k.T / 2).softmax(0), v), "must run over the L tokens"),
        (lambda q, k, v: weigh(q @ k.T / 2, v), "softmax is missing"),
        (lambda q, k, v: weigh((F.normalize(q, dim=1) @ F.normalize(k, dim=1).T).softmax(1), v), "Cosines"),
        (lambda q, k, v: ((q @ k.T / 2).softmax(1), v[(q @ k.T).argmax(1)]), "best token only"),
        (lambda q, k, v: (q @ k.T / 2).softmax(1) @ v, "two tensors"),
        (lambda q, k, v: weigh((q @ k.T / 2).exp(), v), "divide each row by its sum"),
        (lambda q, k, v: weigh((q @ k.T / 2).flatten().softmax(0).reshape(len(q), -1), v), "each row needs its own"),
        (lambda q, k, v: weigh((q.div_(2) @ k.T).softmax(1), v), "changes its argument q"),
        (lambda q, k, v: ((q @ k.T / 2).softmax(1), v.mul_(0)), "changes its argument v"),
    ],
)
def test_attention_gone_wrong(answer, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex02.check_attention(answer)


# ---- 2.3


def test_pointer_tokens_by_splitting_pass():
    ex02.check_pointer_tokens(lambda pointer, D: torch.stack(pointer.split(D, dim=1)))


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda p, D: p.reshape(p.shape[1] // D, len(p), D), "different images are mixed"),
        (lambda p, D: p.reshape(len(p), p.shape[1] // D, D), "swap the first two axes"),
        (lambda p, D: p.reshape(len(p), D, p.shape[1] // D).permute(2, 0, 1), "every third number"),
        (lambda p, D: p.reshape(len(p), -1, D).transpose(0, 1).flip(0), "reverse order"),
        (lambda p, D: p.reshape(len(p), -1, D).transpose(0, 1) + 1, "your tokens: 2 at .0, 0, 0., but 1 is right"),
        (lambda p, D: p.reshape(D, len(p), -1), "your tokens: the shape is"),
    ],
)
def test_pointer_tokens_gone_wrong(answer, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex02.check_pointer_tokens(answer)


# ---- 2.4


def test_frames_to_read_from_a_list_pass():
    def answer(t, recent):
        others = list(range(1, t))
        return [0] + (others[-recent:] if recent else [])

    ex02.check_frames_to_read(answer)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda t, n: [0, *range(max(1, t - n + 1), t + 1)], "not remembered yet"),
        (lambda t, n: list(range(max(0, t - n), t)), "frame 0 is always read"),
        (lambda t, n: [0, *range(max(0, t - n), t)], "listed twice"),
        (lambda t, n: [0, *range(t - n, t)], "listed twice|no frame before"),
        (lambda t, n: [0, *list(range(1, t))[-n:]], "only the latest 0"),
        (lambda t, n: [0, *range(1, t)], "only the latest 3"),
        (lambda t, n: [0, *range(t - 1, max(0, t - n - 1), -1)], "not in ascending order"),
        (lambda t, n: [0, *range(max(1, t - n + 1), t)], "there should be 3"),
    ],
)
def test_frames_to_read_gone_wrong(answer, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex02.check_frames_to_read(answer)

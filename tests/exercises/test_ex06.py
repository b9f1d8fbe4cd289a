"""Exercises of notebook 06: right answers pass, plausible wrong ones get the hint that helps."""

import math

import pytest
import torch

from fss_lab.exercises import ExerciseError, ex06
from fss_lab.method.prompts import cosine_map, min_max, prototype

CHECKS = {
    "ex06-attention-weights": ex06.check_attention_weights,
    "ex06-shot-similarity": ex06.check_shot_similarity,
    "ex06-calibration-term": ex06.check_calibration_term,
    "ex06-calibration-bias": ex06.check_calibration_bias,
    "ex06-calibrated-attention": ex06.check_calibrated_attention,
    "ex06-better-c": ex06.check_better_c,
}


def other_attention_weights(q, k):
    """With the exponential written out."""
    fits = torch.einsum("bhnd,bhld->bhnl", q, k).div(math.sqrt(k.shape[-1])).exp()
    return fits / fits.sum(-1, keepdim=True)


def other_shot_similarity(k_query, k_support, masks):
    """Without maps: the keys stay in a row."""
    weights = masks.flatten(2)[:, None, :, :, None]  # B, 1, K, N, 1
    mean = (k_support * weights).sum(3) / (weights.sum(3) + 5e-4)  # B, heads, K, d
    cosine = (k_query.unsqueeze(2) * mean.unsqueeze(3)).sum(-1)
    cosine = cosine / (k_query.norm(dim=-1).unsqueeze(2) * mean.norm(dim=-1).unsqueeze(3) + 1e-7)
    return min_max(cosine, dim=(-1,)).unflatten(-1, masks.shape[-2:])


def other_calibration_term(similarity, masks):
    """Episode by episode."""
    found = []
    for maps, mask in zip(similarity, masks, strict=True):
        seen = [k for k in range(len(mask)) if mask[k].sum() > 0]
        found.append(maps[:, seen].mean(1) if seen else torch.ones_like(maps[:, 0]))
    return torch.stack(found)


def other_calibration_bias(logits, term):
    with torch.no_grad():
        low, high = logits.min(-1, keepdim=True).values, logits.max(-1, keepdim=True).values
        sums = (logits - low) / (high - low + 1e-7) + term.reshape(*term.shape[:2], 1, -1) - 1
        return torch.where(sums < 0, 10 * sums, torch.zeros_like(sums))


def by_object(query, support, masks):
    """Cosines (B, K, h, w) with the mean feature of every shot's object."""
    return cosine_map(query.unsqueeze(1), prototype(support, masks.unsqueeze(2))).squeeze(2)


def other_better_c(F_Q, F_S, Mem_Q, Mem_S, M_S):
    """More like the support's object than like its background, as P_d is."""
    lead = min_max(by_object(F_Q, F_S, M_S)) - min_max(by_object(F_Q, F_S, 1 - M_S))
    return min_max(lead.clamp(min=0)).mean(1)


def attention(q, k, v, masks, where="query", average=True, scale=True, after=False, off=False, **mistakes):
    """Calibrated attention, or one mistake."""
    n, shots = q.shape[2], masks.shape[1]
    query, judges = k[:, :, shots * n : (shots + 1) * n].detach(), mistakes.get("judges", masks.shape[1])
    each = other_shot_similarity(query, k[:, :, : shots * n].detach().unflatten(2, (shots, n)), masks)[:, :, :judges]
    root = math.sqrt(q.shape[-1])
    c = each.mean(2) if mistakes.get("everyone") else other_calibration_term(each, masks[:, :judges])
    bias = other_calibration_bias(q.detach() @ query.mT / root, c)
    if average:
        k, v = (torch.cat([sum(x[:, :, : shots * n].split(n, 2)) / shots, x[:, :, shots * n :]], 2) for x in (k, v))
        shots = 1
    start = {"query": shots * n, "support": 0}[where]
    wide = torch.zeros(*q.shape[:3], k.shape[2])
    wide[..., start : start + n] = bias
    wide = wide * (not off)
    logits = q @ k.mT / (root if scale else 1)
    weights = logits.softmax(-1) + wide if after else (logits + wide).softmax(-1)
    return (weights.detach() if mistakes.get("detach") else weights) @ v


def average_judges(q, k, v, masks, one_mask=False):
    """c from the mean of the supports' keys, under every mask or under the mean of the masks."""
    n, shots = q.shape[2], masks.shape[1]
    mean = k[:, :, : shots * n].unflatten(2, (shots, n)).mean(2)
    query = k[:, :, shots * n : (shots + 1) * n]
    regions = masks.mean(1, keepdim=True) if one_mask else masks
    each = other_shot_similarity(query, mean.unsqueeze(2).expand(-1, -1, regions.shape[1], -1, -1), regions)
    c = other_calibration_term(each, regions).flatten(-2).unsqueeze(-2)
    logits, v, _ = parts(q, k, v, masks)
    wide = torch.zeros_like(logits)
    wide[..., n : 2 * n] = 10 * (rows(logits[..., n : 2 * n]) + c - 1).clamp(max=0)
    return (logits + wide).softmax(-1) @ v


def parts(q, k, v, masks):
    """Logits and values of [mean support | query memory | pointers], and c as columns."""
    n, shots = q.shape[2], masks.shape[1]
    query = k[:, :, shots * n : (shots + 1) * n]
    each = other_shot_similarity(query, k[:, :, : shots * n].unflatten(2, (shots, n)), masks)
    k, v = (torch.cat([sum(x[:, :, : shots * n].split(n, 2)) / shots, x[:, :, shots * n :]], 2) for x in (k, v))
    return q @ k.mT / math.sqrt(q.shape[-1]), v, other_calibration_term(each, masks).flatten(-2).unsqueeze(-2)


def apart(q, k, v, masks):
    logits, v, c = parts(q, k, v, masks)
    n = q.shape[2]
    sizes = [n, n, logits.shape[-1] - 2 * n]
    bias = 10 * (rows(logits[..., n : 2 * n]) + c - 1).clamp(max=0)
    logits = logits + torch.cat([torch.zeros_like(bias), bias, torch.zeros_like(logits[..., 2 * n :])], -1)
    return sum(x.softmax(-1) @ y for x, y in zip(logits.split(sizes, -1), v.split(sizes, 2), strict=True))


def whole_rows(q, k, v, masks):
    logits, v, c = parts(q, k, v, masks)
    n, wide = q.shape[2], torch.zeros_like(logits)
    wide[..., n : 2 * n] = 10 * (rows(logits)[..., n : 2 * n] + c - 1).clamp(max=0)
    return (logits + wide).softmax(-1) @ v


OTHERS = {
    "ex06-attention-weights": other_attention_weights,
    "ex06-shot-similarity": other_shot_similarity,
    "ex06-calibration-term": other_calibration_term,
    "ex06-calibration-bias": other_calibration_bias,
    "ex06-calibrated-attention": attention,
    "ex06-better-c": other_better_c,
}


@pytest.mark.parametrize("name", CHECKS)
def test_another_right_answer_passes(name, capsys):
    CHECKS[name](OTHERS[name])
    assert capsys.readouterr().out.startswith("✓")


def torn(k_query, k_support, masks):
    grid, d = masks.shape[-2:], k_query.shape[-1]
    query = k_query.reshape(*k_query.shape[:2], 1, d, *grid)
    support = k_support.reshape(*k_support.shape[:3], d, *grid)
    return min_max(cosine_map(query, prototype(support, masks[:, None, :, None]))).squeeze(3)


def one_stretch(k_query, k_support, masks):
    raw = unstretched(k_query, k_support, masks)
    return min_max(raw, dim=(2, 3, 4))


def unstretched(k_query, k_support, masks):
    query, support = (x.mT.unflatten(-1, masks.shape[-2:]) for x in (k_query, k_support))
    return cosine_map(query.unsqueeze(2), prototype(support, masks[:, None, :, None])).squeeze(3)


def bias_of(stretch, combine=None):
    """A bias with another stretching, or another combination of confidence and c (given as columns)."""

    def bias(logits, term):
        columns = term.detach().flatten(-2).unsqueeze(-2)
        a = stretch(logits.detach())
        return combine(a, columns) if combine else 10 * (a + columns - 1).clamp(max=0)

    return bias


def rows(x):
    return min_max(x, dim=(-1,))


def seen(masks):
    return masks.flatten(2).amax(-1)[:, None, :, None, None]


def weights(q, k):
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)


def pooled(k_query, k_support, masks):
    """One prototype for all shots, (B, heads, 1, h, w)."""
    flat = masks.flatten(1)[:, None, :, None]
    mean = (k_support.flatten(2, 3) * flat).sum(2, keepdim=True) / flat.sum(2, keepdim=True)
    cosine = torch.nn.functional.cosine_similarity(k_query, mean, dim=-1)
    return min_max(cosine.unflatten(-1, masks.shape[-2:])).unsqueeze(2)


def by_area(c, masks):
    area = masks.sum((-2, -1))[:, None, :, None, None]
    return torch.where(area.sum(2) > 0, (c * area).sum(2) / area.sum(2).clamp(min=1), torch.ones_like(c[:, :, 0]))


def without_pointers(q, k, v, masks):
    end = q.shape[2] * (masks.shape[1] + 1)
    return attention(q, k[:, :, :end], v[:, :, :end], masks)


def first_support(q, k, v, masks):
    """The attention reads the first support alone; all of them judge."""
    n, shots = q.shape[2], masks.shape[1]
    query = k[:, :, shots * n : (shots + 1) * n].detach()
    each = other_shot_similarity(query, k[:, :, : shots * n].unflatten(2, (shots, n)), masks)
    bias = other_calibration_bias(q @ query.mT / math.sqrt(q.shape[-1]), other_calibration_term(each, masks))
    k, v = (torch.cat([x[:, :, :n], x[:, :, shots * n :]], 2) for x in (k, v))
    bias = torch.nn.functional.pad(bias, (n, k.shape[2] - 2 * n))
    return (q @ k.mT / math.sqrt(q.shape[-1]) + bias).softmax(-1) @ v


WEIGHTS, SIMILARITY, TERM, BIAS, WHOLE, BETTER = CHECKS
WRONG = [
    ("ex06-attention-weights", lambda q, k: (q @ k.mT).softmax(-1), "not divided by √d"),
    ("ex06-attention-weights", lambda q, k: (q @ k.mT / q.shape[-1]).softmax(-1), "must be its square root"),
    ("ex06-attention-weights", lambda q, k: (q @ k.mT / math.sqrt(k.shape[2])).softmax(-1), "number of keys"),
    ("ex06-attention-weights", lambda q, k: (q @ k.mT / 2).softmax(-2), "over the cells that look"),
    ("ex06-attention-weights", lambda q, k: q @ k.mT / 2, "these are the logits"),
    (WEIGHTS, lambda q, k: weights(q, k).mean(1), "averaged over the heads"),
    (WEIGHTS, lambda q, k: weights(q, k).mean(1, keepdim=True).expand(*q.shape[:3], -1), "averaged over the heads"),
    (WEIGHTS, lambda q, k: (q @ k.mT / math.sqrt(q.shape[1] * q.shape[-1])).softmax(-1), r"divided by √\(heads · d\)"),
    (WEIGHTS, lambda q, k: weights(q, k) if q.shape[1] == 1 else (q @ k.mT / 6**0.5).softmax(1), "over the heads"),
    (WEIGHTS, lambda q, k: weights(*(x / x.norm(dim=-1, keepdim=True) * d for x, d in ((q, 2), (k, 1)))), "cosines"),
    (SIMILARITY, lambda q, s, m: pooled(q, s, m).expand(-1, -1, m.shape[1], -1, -1), "pools the cells of all shots"),
    (SIMILARITY, lambda q, s, m: pooled(q, s, m), r"one map for all shots|must be"),
    (SIMILARITY, lambda q, s, m: other_shot_similarity(q, s, m).mean(2, keepdim=True), "one map for all shots"),
    (SIMILARITY, lambda q, s, m: other_shot_similarity(q, s, m)[:, :, :1].expand(-1, -1, m.shape[1], -1, -1), "first"),
    (
        SIMILARITY,
        lambda q, s, m: other_shot_similarity(q, s.mean(1, keepdim=True).expand(s.shape), m),
        "over the heads",
    ),
    (SIMILARITY, torn, "torn apart"),
    (SIMILARITY, unstretched, "not stretched"),
    (SIMILARITY, one_stretch, "share one stretch"),
    (SIMILARITY, lambda q, s, m: other_shot_similarity(q, s, torch.ones_like(m)), "mean of all support keys"),
    (SIMILARITY, lambda q, s, m: other_shot_similarity(q, s, 1 - m), "support's background"),
    (SIMILARITY, lambda q, s, m: other_shot_similarity(q, q.unsqueeze(2).expand(s.shape), m), "out of the query"),
    (SIMILARITY, lambda q, s, m: other_shot_similarity(q, s, m).squeeze(2), r"but \(1, 1, 1, 2, 2\) is right"),
    (TERM, lambda c, m: c.mean(2), "counts the shot whose mask is empty"),
    (TERM, lambda c, m: by_area(c, m), "by the size of their object"),
    (TERM, lambda c, m: c.sum(2), "is the sum"),
    (TERM, lambda c, m: c.amax(2), "is the largest"),
    (TERM, lambda c, m: c[:, :, 0], "first shot only"),
    (TERM, lambda c, m: c.mul(seen(m)).sum(2) / seen(m).sum(2), "NaN"),
    (TERM, lambda c, m: c.mul(seen(m)).sum(2) / seen(m).sum(2).clamp(min=1), "turn down the query memory everywhere"),
    (
        TERM,
        lambda c, m: other_calibration_term(c, m) if m.flatten(2).any(2).any(1).all() else torch.ones_like(c[:, :, 0]),
        "in the whole batch",
    ),
    (TERM, lambda c, m: c.mul(m[:, None]).sum(2) / m[:, None].sum(2).clamp(min=1), "cut out by the masks"),
    (BIAS, bias_of(rows, lambda a, c: 10 * (a + c - 1)), "not cut at 0"),
    (BIAS, bias_of(lambda x: x.softmax(-1)), "is a softmax"),
    (BIAS, bias_of(rows, lambda a, c: (a + c - 1).clamp(max=0)), "lacks the factor 10"),
    (BIAS, bias_of(rows, lambda a, c: 10 * (a * c - 1).clamp(max=0)), "multiplies"),
    (BIAS, bias_of(rows, lambda a, c: 10 * (a + c.mT - 1).clamp(max=0)), "added along the rows"),
    (BIAS, bias_of(rows, lambda a, c: -10 * (a + c - 1).clamp(max=0)), "is positive"),
    (BIAS, bias_of(min_max), "over the whole matrix"),
    (BIAS, bias_of(lambda x: min_max(x, dim=(-2,))), "column by column"),
    (BIAS, bias_of(lambda x: x / x.amax(-1, keepdim=True)), "divided by the row's maximum"),
    (BIAS, bias_of(lambda x: x), "is not stretched"),
    (BIAS, lambda x, c: 10 * (rows(x) + c.flatten(-2).unsqueeze(-2) - 1).clamp(max=0), "detach it"),
    (WHOLE, lambda *x: attention(*x, off=True), "do not calibrate"),
    (WHOLE, lambda *x: attention(*x, average=False), "stand side by side; average"),
    (WHOLE, lambda *x: attention(*x, average=False, off=True), "nothing is calibrated"),
    (WHOLE, lambda *x: attention(*x, where="support"), "falls on the supports"),
    (WHOLE, lambda *x: attention(*x, after=True), "added after the softmax"),
    (WHOLE, lambda *x: attention(*x, scale=False), "not divided by √d"),
    (WHOLE, apart, "a softmax of each part"),
    (WHOLE, whole_rows, "supports and pointers too"),
    (WHOLE, lambda *x: apart(*x) / 3, "average the results"),
    (WHOLE, without_pointers, "pointers are left out"),
    (WHOLE, first_support, "first support only"),
    (WHOLE, lambda q, k, v, m: attention(q, k, v, m, judges=1), "c is that of the first support"),
    (WHOLE, lambda q, k, v, m: attention(q, k, v, m, everyone=True), "vanish on the grid judge too"),
    (WHOLE, lambda *x: average_judges(*x), "the shots' averaged keys; every support"),
    (WHOLE, lambda *x: average_judges(*x, one_mask=True), "under their averaged mask"),
    (WHOLE, lambda *x: attention(*x, detach=True), "only the bias is detached"),
    (WHOLE, lambda q, k, v, m: attention(q, k[:, :, : -(k.shape[2] % q.shape[2] or 1)], v, m), "stopped with"),
    (BETTER, lambda Q, S, MQ, MS, M: torch.ones_like(M[:, 0]), "the same in every cell"),
    (BETTER, lambda Q, S, MQ, MS, M: torch.zeros_like(M[:, 0]), "the same in every cell"),
    (BETTER, lambda Q, S, MQ, MS, M: min_max(by_object(MQ, MS, M)).mean(1), "memories alone"),
    (BETTER, lambda Q, S, MQ, MS, M: min_max(by_object(Q, S, 1 - M)).mean(1), "does not single out"),
    (BETTER, lambda Q, S, MQ, MS, M: 1 - min_max(by_object(Q, S, M)).mean(1), "turned round"),
    (BETTER, lambda Q, S, MQ, MS, M: by_object(Q, S, M).mean(1) - 1, "it must lie in 0..1"),
    (BETTER, lambda Q, S, MQ, MS, M: by_object(Q, S, M) / 0, "the shape"),
    (BETTER, lambda Q, S, MQ, MS, M: by_object(Q, S, M).mean(1) / 0, "alone, an episode's c|must lie in 0..1"),
    (BETTER, lambda Q, S, MQ, MS, M: min_max(by_object(Q, S, M), dim=(0, 1, 2, 3)).mean(1), "for itself"),
    (BETTER, lambda Q, S, MQ, MS, M: min_max(by_object(Q, S, M))[:, 0].mean(0, keepdim=True), r"but \(2, 4, 5\)"),
]


@pytest.mark.parametrize(("name", "answer", "hint"), WRONG)
def test_wrong_answers_get_the_right_hint(name, answer, hint):
    with pytest.raises(ExerciseError, match=hint):
        CHECKS[name](answer)


@pytest.mark.parametrize("name", CHECKS)
def test_an_answer_that_changes_what_it_is_given_is_refused(name):
    def changing(first, *others):
        result = OTHERS[name](first, *others)
        first.data.add_(1)
        return result

    with pytest.raises(ExerciseError, match="changes its argument first in place"):
        CHECKS[name](changing)


@pytest.mark.parametrize(
    "better_c",
    [
        lambda Q, S, MQ, MS, M: min_max(by_object(Q, S, M)).mean(1),
        lambda Q, S, MQ, MS, M: min_max(by_object(Q, S, M)).mean(1).sqrt(),
        lambda Q, S, MQ, MS, M: (min_max(by_object(Q, S, M)).mean(1) > 0.5).float(),
        lambda Q, S, MQ, MS, M: torch.sigmoid(12 * min_max(by_object(Q, S, M)).mean(1) - 6),
    ],
    ids=["cosine", "its root", "cut", "steep"],
)
def test_several_better_c_pass(better_c, capsys):
    ex06.check_better_c(better_c)
    assert "IoU on planted episodes 50% without a bias" in capsys.readouterr().out

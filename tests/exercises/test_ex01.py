"""Notebook 01: right answers unlike the solutions pass, and wrong ones are told what is wrong."""

import pytest
import torch
from torch.nn import functional as F

from fss_lab.exercises import ExerciseError, ex01

# ---- 1.1


def areas(labels):
    return {c: int((labels == c + 1).sum()) for c in range(20)}


def inner_values(labels, novel, least):
    """Takes the first value for the background and the last one for the ring."""
    values, counts = labels.unique(return_counts=True)
    area = {v - 1: n for v, n in zip(values.tolist()[1:-1], counts.tolist()[1:-1], strict=True)}
    return [] if any(c in area for c in novel) else [c for c, n in area.items() if n >= least]


def test_training_classes_written_with_a_loop_over_classes_pass():
    def answer(labels, novel, least):
        area = areas(labels)
        return [] if any(area[c] for c in novel) else [c for c in range(20) if area[c] >= least]

    ex01.check_training_classes(answer)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda m, novel, n: [c for c, a in areas(m).items() if a >= n and c not in novel], "all of it must go"),
        (
            lambda m, novel, n: [] if any(areas(m)[c] for c in novel) else [c for c, a in areas(m).items() if a > n],
            "use >=, not >",
        ),
        (
            lambda m, novel, n: (
                [] if any(areas(m)[c] >= n for c in novel) else [c for c, a in areas(m).items() if a >= n]
            ),
            "one is enough",
        ),
        (
            lambda m, novel, n: [v for v in m.unique().tolist() if 0 < v < 255 and (m == v).sum() >= n],
            "stands for class",
        ),
        (lambda m, novel, n: [v - 1 for v in m.unique().tolist() if v > 0 and (m == v).sum() >= n], "255 is no class"),
        (
            lambda m, novel, n: [v - 1 for v in m.unique().tolist() if v < 255 and (m == v).sum() >= n],
            "0 is background",
        ),
        (lambda m, novel, n: [c for c, a in areas(m).items() if a and c not in novel], "fewer than least"),
        (
            lambda m, novel, n: (
                [] if any((m == c).any() for c in novel) else [c for c, a in areas(m).items() if a >= n]
            ),
            "Compare class ids",
        ),
        (lambda m, novel, n: {1, 3}, "list of ints"),
        (lambda m, novel, n: inner_values(m, novel, n), "leave out 0 and 255 by value"),
        (lambda m, novel, n: [] if novel and areas(m)[novel.pop(0)] else [1, 3], "changes its argument novel"),
    ],
)
def test_training_classes_gone_wrong(answer, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex01.check_training_classes(answer)


# ---- 1.2


def test_intersection_and_union_by_indexing_pass():
    def answer(mask, truth):
        m, t = mask[truth != 255], truth[truth != 255] == 1
        return (m & t).sum(), m.sum() + t.sum() - (m & t).sum()

    ex01.check_intersection_union(answer)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda m, t: (int((m & (t == 1)).sum()), int((m | (t == 1)).sum())), "border ring"),
        (lambda m, t: (int((m & t.bool()).sum()), int((m | t.bool()).sum())), "255 counts as object"),
        (lambda m, t: (int((m & t.bool()).sum()), int(((m | t.bool()) & (t != 255)).sum())), "255 counts as object"),
        (lambda m, t: (int((m & (t == 1)).sum()), int((m & (t != 255)).sum() + (t == 1).sum())), "sum of both areas"),
        (lambda m, t: (int((m & (t == 1)).sum()), int(((m ^ (t == 1)) & (t != 255)).sum())), "exclusive or"),
        (lambda m, t: (int((m & (t == 1)).sum()), int((t == 1).sum())), "only the prediction covers"),
        (lambda m, t: ((m & t).sum(), (m | t).sum()), "add up the values of truth"),
        (lambda m, t: (int((m * t).sum()), int(torch.maximum(m.long(), t).sum())), "compare first"),
        (lambda m, t: float((m & (t == 1)).sum()), "two numbers"),
    ],
)
def test_intersection_and_union_gone_wrong(answer, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex01.check_intersection_union(answer)


# ---- 1.3


def test_miou_with_tensors_passes():
    def answer(class_ids, inter, union, classes):
        ids, i, u = map(torch.tensor, (class_ids, inter, union))
        per_class = [i[ids == c].sum() / u[ids == c].sum().clamp(min=1) for c in classes]
        return torch.stack(per_class).mean()

    ex01.check_mean_iou(answer)


def per_class(ids, inter, union, classes, score):
    rows = [[(i, u) for k, i, u in zip(ids, inter, union, strict=True) if k == c] for c in classes]
    return [score(row) for row in rows if row]


def totals(ids, inter, union, classes):
    """(I, U) of every class."""
    return [[sum(x for x, k in zip(part, ids, strict=True) if k == c) for part in (inter, union)] for c in classes]


def class_ious(ids, inter, union, classes):
    """Of every class, 0 where there is no episode."""
    return [i / u if u else 0.0 for i, u in totals(ids, inter, union, classes)]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda k, i, u, c: sum(a / b for a, b in zip(i, u, strict=True)) / len(k), "mean over the episodes"),
        (lambda *a: sum(i / u for i, u in totals(*a)) / len(a[3]), "(?s)ZeroDivisionError.*it scores 0"),
        (lambda k, i, u, c: sum(i) / sum(u), "one IoU over all"),
        (lambda *a: sum(x := per_class(*a, lambda r: sum(i / u for i, u in r) / len(r))) / len(x), "Within each class"),
        (
            lambda *a: sum(x := per_class(*a, lambda r: sum(i for i, _ in r) / sum(u for _, u in r))) / len(x),
            "counts in the mean",
        ),
        (lambda *a: sum(per_class(*a, lambda r: sum(i for i, _ in r) / sum(u for _, u in r))), "sum over the classes"),
        (lambda k, i, u, c: sum(x := class_ious(k, i, u, {*k, *c})) / len(x), "not in classes"),
        (lambda k, i, u, c: sum(class_ious(k, i, u, {*k, *c})) / len(c), "add up a class that is not in classes"),
    ],
)
def test_miou_gone_wrong(answer, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex01.check_mean_iou(answer)


# ---- 1.4


def test_fb_iou_from_totals_passes():
    def answer(inter, union, valid):
        i, u, v = inter.sum().item(), union.sum().item(), valid.sum().item()
        return 0.5 * i / u + 0.5 * (v - u) / (v - i)

    ex01.check_fb_iou(answer)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda i, u, v: ((i / u + (v - u) / (v - i)) / 2).mean(), "sum over the episodes first"),
        (lambda i, u, v: (i.sum() / u.sum() + 1 - i.sum() / u.sum()) / 2, "not 1 minus"),
        (lambda i, u, v: i.sum() / u.sum(), "foreground alone"),
        (lambda i, u, v: (i.sum() / u.sum() + (v - u).sum() / v.sum()) / 2, "V - I, not V"),
        (lambda i, u, v: (i.sum() / u.sum() + (v - i).sum() / (v - u).sum()) / 2, "upside down"),
        (lambda i, u, v: i / u, "one number"),
    ],
)
def test_fb_iou_gone_wrong(answer, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex01.check_fb_iou(answer)


# ---- 1.5


def test_nearest_prototype_by_cosine_similarity_passes():
    def answer(features, prototypes):
        return F.cosine_similarity(features[None], prototypes[:, :, None, None], dim=1).max(0).indices

    ex01.check_nearest_prototype(answer)


def products(features, prototypes):
    return torch.einsum("nc,chw->nhw", prototypes, features)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda f, p: products(f, p).argmax(0), "long prototypes win"),
        (lambda f, p: (f[None] - p[:, :, None, None]).norm(dim=1).argmin(0), "Euclidean"),
        (lambda f, p: products(f, F.normalize(p, dim=1)).argmin(0), "least similar"),
        (lambda f, p: products(f, F.normalize(p, dim=0)).argmax(0), "over its C numbers"),
        (lambda f, p: products(f, F.normalize(p, dim=1)).abs().argmax(0), "absolute value"),
        (lambda f, p: products(F.normalize(f, dim=0), F.normalize(p, dim=1)).amax(0), "argmax, not max"),
        (lambda f, p: products(f, F.normalize(p, dim=1)).argmax(1), "the shape is"),
        (lambda f, p: products(f, F.normalize(p, p=1, dim=1)).argmax(0), "sum of the absolute values"),
        (lambda f, p: products(f, p / p.abs().amax(1, keepdim=True)).argmax(0), "the largest value"),
        (lambda f, p: products(f, p / p.square().sum(1, keepdim=True)).argmax(0), "square of the length"),
        (lambda f, p: (F.normalize(f, dim=0) - p[:, :, None, None]).norm(dim=1).argmin(0), "divide the prototypes too"),
        (lambda f, p: products(f, p.div_(p.norm(dim=1, keepdim=True))).argmax(0), "changes its argument p"),
    ],
)
def test_nearest_prototype_gone_wrong(answer, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex01.check_nearest_prototype(answer)

"""Checks of notebook 01: which images train, IoU, mIoU, FB-IoU, prototypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fss_lab.exercises.harness import ExerciseError, call, check_number, check_tensor, compare, exercise, hint

Answer = Callable[..., Any]


@exercise()
def check_training_classes(function: Answer) -> str:
    """Exercise 1.1: `training_classes(labels, novel, least)`. Raises ExerciseError with a diagnosis."""
    labels = torch.tensor([[0, 4, 4, 255], [0, 4, 4, 255], [0, 2, 2, 2], [0, 0, 7, 255]])  # classes 3, 1 and 6

    def ask(novel: list[int], least: int, labels: torch.Tensor = labels) -> list[int]:
        answer = call(function, labels, novel, least)
        if not isinstance(answer, list) or not all(type(c) is int for c in answer):
            raise ExerciseError(f"training_classes must return a list of ints, but returned {answer!r}.")
        return answer

    answer = ask([9, 10], 2)
    if 254 in answer:
        raise ExerciseError("255 is no class but 'do not count': leave it out before you subtract 1.")
    if -1 in answer:
        raise ExerciseError("0 is background, no class: leave it out before you subtract 1.")
    if sorted(answer) == [2, 4]:
        raise ExerciseError("These are values of the label map; value v stands for class v - 1.")
    if answer == [3, 1]:
        raise ExerciseError("The classes are right, but must be in ascending order.")
    if 6 in answer:
        raise ExerciseError("Class 6 covers one pixel, fewer than least = 2: it must not count.")
    _expect(answer, [1, 3], "an image without novel classes")
    if ask([9], 3) == [3]:
        raise ExerciseError("Class 1 covers exactly least = 3 pixels; that is enough: use >=, not >.")
    _expect(ask([9], 3), [1, 3], "least = 3")
    if ask([2], 2) == []:
        raise ExerciseError("Class 2 is not in this image: its label would be 3. Compare class ids, not map values.")
    _expect(ask([2], 2), [1, 3], "novel = [2]")
    if ask([3], 2) == [1]:
        raise ExerciseError("The image shows novel class 3, so all of it must go, not only that class: return [].")
    _expect(ask([3], 2), [], "an image with a novel class")
    if ask([6], 2):
        raise ExerciseError("Novel class 6 covers one pixel only, but one is enough to drop the image: return [].")
    full = torch.tensor([[9, 9, 3], [9, 6, 3], [9, 9, 3]])  # classes 8, 2 and 5, neither background nor ring
    if ask([10], 2, full) in ([], [5]):
        raise ExerciseError("In a map without background and ring you lose classes: leave out 0 and 255 by value.")
    _expect(ask([10], 2, full), [2, 8], "a map without background and ring")
    _expect(ask([10], 1, full), [2, 5, 8], "a map without background and ring, with least = 1")
    _expect(ask([], 5), [], "a map in which no class is large enough")
    return "An image may train only if no novel class is anywhere in it."


def _expect(answer: list[int], right: list[int], case: str) -> None:
    if answer != right:
        raise ExerciseError(f"For {case} you return {answer}; it must be {right}.")


@exercise(library=["update"])
def check_intersection_union(function: Answer) -> str:
    """Exercise 1.2: `intersection_union(mask, truth)`. Raises ExerciseError with a diagnosis."""
    truth = torch.tensor([[1, 1, 0, 255], [1, 1, 0, 255], [1, 0, 0, 255], [0, 0, 0, 0]])
    mask = torch.tensor([[0, 1, 1, 1], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]).bool()  # I: 2, U: 5 + 6 - 2
    truthy = "255 counts as object here: `truth.bool()` is true for 255 as well; the object is where truth == 1."
    answer = _pair(call(function, mask, truth))
    if max(answer) > mask.numel():
        raise ExerciseError("You add up the values of truth, 255 among them; compare first (truth == 1), then count.")
    compare(
        answer,
        (2, 9),
        "(I, U)",
        {
            "Your union counts the border ring: leave out the pixels whose truth is 255.": (2, 10),
            truthy: (3, 9),
            truthy + " ": (3, 12),
            "Your union is the sum of both areas; pixels that both cover must be counted once.": (2, 11),
            "Your union is the sum of both areas, border ring and all; count shared pixels once and 255 never.": (
                2,
                12,
            ),
            "You return the union first; it must be (I, U).": (9, 2),
            "Your union lacks the pixels that only the prediction covers.": (2, 5),
            "Your union lacks the pixels that only the truth covers.": (2, 6),
            "Your union leaves out what both cover; that is `^` (exclusive or), the union is `|`.": (2, 7),
        },
    )
    everything = torch.ones_like(mask)
    compare(_pair(call(function, everything, truth)), (5, 13), "(I, U) of a prediction that covers everything")
    compare(_pair(call(function, everything, torch.full_like(truth, 255))), (0, 0), "(I, U) where all is 255")
    return "Shared pixels and covered pixels, and 255 in neither."


def _pair(answer: Any) -> tuple[float, float]:
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise ExerciseError(f"intersection_union must return two numbers, (I, U), but returned {answer!r}.")
    return check_number(answer[0], "I"), check_number(answer[1], "U")


@exercise(library=["miou"])
def check_mean_iou(function: Answer) -> str:
    """Exercise 1.3: `mean_iou(class_ids, inter, union, classes)`. Raises ExerciseError with a diagnosis."""
    episodes = ([7, 7, 9], [1, 8, 2], [2, 10, 8])  # sums: class 7: 9 / 12, class 9: 2 / 8
    compare(
        check_number(call(function, *episodes, [7, 9])),
        0.5,
        "your mIoU",
        {
            "This is the mean over the episodes; sum I and U for each class first, then divide.": (0.5 + 0.8 + 0.25)
            / 3,
            "This is one IoU over all episodes together (11 / 20); divide for each class, then take the mean.": 11 / 20,
            "Within each class you take the mean of the episodes' IoUs; sum I and U over the class, then divide "
            "once.": (0.65 + 0.25) / 2,
            "This is the sum over the classes; divide it by their number.": 1.0,
        },
    )
    with hint(ZeroDivisionError, "No episode shows one of the classes, so its U is 0; it scores 0."):
        answer = check_number(call(function, *episodes, [7, 8, 9]))
    compare(
        answer,
        1 / 3,
        "your mIoU with a class that no episode shows",
        {"A class without episodes scores 0 and counts in the mean: divide by len(classes).": 0.5},
    )
    compare(
        check_number(call(function, *episodes, [7])),
        0.75,
        "your mIoU where the episodes show one class of the fold and one outside it",
        {
            "You count a class that is not in classes: loop over classes, not over class_ids.": 0.5,
            "You add up a class that is not in classes: loop over classes, not over class_ids.": 1.0,
        },
    )
    return "Sums within a class, the mean over the classes."


@exercise()
def check_fb_iou(function: Answer) -> str:
    """Exercise 1.4: `fb_iou(inter, union, valid)`. Raises ExerciseError with a diagnosis."""
    for valid in (torch.tensor([20, 20, 20]), torch.tensor([16, 30, 14])):
        inter, union = torch.tensor([1, 8, 2]), torch.tensor([2, 10, 8])
        foreground = inter.sum() / union.sum()
        background = (valid - union).sum() / (valid - inter).sum()
        value = (inter / union + (valid - union) / (valid - inter)) / 2
        compare(
            check_number(call(function, inter, union, valid)),
            (foreground + background) / 2,
            "your FB-IoU",
            {
                "This is the mean of the episodes' FB-IoUs; sum over the episodes first, then divide.": value.mean(),
                "The background's IoU is not 1 minus the foreground's: it is (V - U) / (V - I), from sums.": 0.5,
                "This is the IoU of the foreground alone; average it with the background's.": foreground,
                "This is the IoU of the background alone; average it with the foreground's.": background,
                "This is the sum of both IoUs; FB-IoU is their mean.": foreground + background,
                "The union of the background is V - I, not V: pixels shared by both foregrounds are background in "
                "neither.": (foreground + (valid - union).sum() / valid.sum()) / 2,
                "Your background is upside down: its intersection is V - U and its union V - I.": (
                    foreground + 1 / background
                )
                / 2,
            },
        )
    return "Foreground and background, each summed over all episodes, then averaged."


@exercise()
def check_nearest_prototype(function: Answer) -> str:
    """Exercise 1.5: `nearest_prototype(features, prototypes)`. Raises ExerciseError with a diagnosis."""
    prototypes = torch.tensor([[-1.0, 1.0], [1.0, 4.0], [-2.0, 1.0]])  # n, C
    features = torch.tensor([[[-1.0, 1, -2], [0, -3, 2]], [[0.0, 4, 2], [-4, 1, -4]]])  # C, h, w
    unit = torch.nn.functional.normalize

    def products(vectors: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nc,chw->nhw", vectors, features)

    cosines = products(unit(prototypes, dim=1)) / features.norm(dim=0)
    distances = (features[None] - prototypes[:, :, None, None]).norm(dim=1)
    halfway = (unit(features, dim=0)[None] - prototypes[:, :, None, None]).norm(dim=1)

    answer = check_tensor(call(function, features, prototypes), features.shape[1:], "your map")
    if answer.is_floating_point():
        if torch.allclose(answer, cosines.amax(0)):
            raise ExerciseError("These are the highest cosines; return which prototype has it: argmax, not max.")
        raise ExerciseError(f"your map has the type {answer.dtype}; it must hold integers, the prototypes' numbers.")
    compare(
        answer,
        [[2, 1, 0], [2, 2, 1]],
        "your map",
        {
            "These are the largest dot products: long prototypes win. Divide each prototype by its length.": (
                products(prototypes).argmax(0)
            ),
            "You divide by the sum of the absolute values; a vector's length is the root of the sum of squares.": (
                products(unit(prototypes, p=1, dim=1)).argmax(0)
            ),
            "You divide by the largest value; a vector's length is the root of the sum of squares.": (
                products(unit(prototypes, p=float("inf"), dim=1)).argmax(0)
            ),
            "You divide by the square of the length: short prototypes win. Take its root.": (
                products(prototypes / prototypes.square().sum(1, keepdim=True)).argmax(0)
            ),
            "This is the least similar prototype; the cosine is larger the more alike two vectors are: argmax.": (
                cosines.argmin(0)
            ),
            "These are the smallest Euclidean distances; compare directions, with the cosine.": distances.argmin(0),
            "You compare distances and divide only the features by their length; divide the prototypes too.": (
                halfway.argmin(0)
            ),
            "Your prototypes are divided by lengths over the prototypes; the length of one vector is over its C "
            "numbers.": products(unit(prototypes, dim=0)).argmax(0),
            "Opposite directions count as alike here: do not take the absolute value of the cosine.": (
                cosines.abs().argmax(0)
            ),
            "Your prototypes are numbered from 1; the first one is 0.": cosines.argmax(0) + 1,
        },
    )
    longer = torch.tensor([[0.01], [1.0], [100.0]]) * prototypes
    compare(call(function, features, longer), answer, "your map after prototypes were made longer or shorter")
    return "The direction decides, not the length."

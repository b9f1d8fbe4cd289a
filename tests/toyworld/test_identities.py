"""Supports that share only some traits with the query's object."""

import pytest
import torch

from fss_lab.datasets.folds import FOLDS
from fss_lab.toyworld.identities import TRAITS, SharedTraits
from fss_lab.toyworld.pictograms import Pictograms


def individual(dataset, index, scene):
    class_id, scenes = dataset.scenes(index)
    (found,) = (identity for identity in scenes[scene].identities if identity.class_id == class_id)
    return found


def test_everything_and_nothing_are_the_same_and_another_identity_of_pictograms():
    for shared, identity in (("everything", "same"), ("nothing", "other")):
        one = SharedTraits(1, shared, seed=3)[2]
        two = Pictograms(1, seed=3, identity=identity, targets=1)[2]
        assert torch.equal(one.query_image, two.query_image)
        assert torch.equal(one.support_images, two.support_images)
        assert torch.equal(one.support_masks, two.support_masks)


@pytest.mark.parametrize("fold", range(FOLDS))
@pytest.mark.parametrize("shots", [1, 2])
def test_the_support_shares_what_it_should_and_nothing_else(fold, shots):
    for shared in TRAITS:
        dataset = SharedTraits(fold, shared, shots)
        mine, shown = individual(dataset, 0, 0), individual(dataset, 0, shots)
        assert (mine.palette == shown.palette) == (shared in ("everything", "colours"))
        assert (mine.texture_colour == shown.texture_colour) == (shared in ("everything", "colours"))
        same_shape = [part.role for part in mine.parts] == [part.role for part in shown.parts] and all(
            (a == b).all() if a.shape == b.shape else False
            for one, two in zip(mine.parts, shown.parts, strict=True)
            for a, b in zip(one.outlines, two.outlines, strict=True)
        )
        assert same_shape == (shared in ("everything", "shape"))


def test_all_kinds_ask_the_same_question():
    first, *others = (SharedTraits(0, shared)[1] for shared in TRAITS)
    for other in others:
        assert torch.equal(first.query_image, other.query_image) and torch.equal(first.query_mask, other.query_mask)


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="shared must be one of"):
        SharedTraits(0, "colour")

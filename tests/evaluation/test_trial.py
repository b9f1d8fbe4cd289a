"""SCMA on trial: the paper's row is the paper's method, and every other row differs from it in one switch."""

import pytest
import torch

from fss_lab import load_model
from fss_lab.evaluation.trial import ROWS, dense_c, prepare, trial, true_c
from fss_lab.method.calibration import STRENGTH, calibration_bias
from fss_lab.method.rereading import bias_without_confidence, make_case
from fss_lab.toyworld.pictograms import Pictograms

MODEL, DATA = load_model("toy"), Pictograms(0, episodes=2)


@pytest.fixture(scope="module")
def pair():
    return next(prepare(MODEL, DATA, 1))


@torch.no_grad()
def test_memory_read_with_scma_gives_the_models_own_mask(pair) -> None:
    lie, ordinary = pair
    for calibration, row in (("corrected", "SCMA: own c, with ā"), ("averaged", "no bias")):
        mask = MODEL.variant(calibration=calibration).segment(DATA[0]).mask
        assert (ROWS[row].mask(ordinary) != mask).sum() <= 3  # a pixel on the edge may fall either way
    assert ordinary.planted is None and lie.planted is not None and lie.planted.equal(DATA.distractor(0))
    assert lie.Mem_Q.shape == ordinary.Mem_Q.shape == (1, 24, 16, 16) and not lie.Mem_Q.equal(ordinary.Mem_Q)


def test_only_true_c_knows_the_truth(pair) -> None:
    lie, ordinary = pair
    assert set(true_c(lie).unique().tolist()) == {0, 1} and true_c(lie).equal(true_c(ordinary))
    assert dense_c(lie).equal(dense_c(ordinary)) and dense_c(lie).aminmax() == pytest.approx((0, 1), abs=1e-5)


def test_bias_without_confidence_is_the_same_for_every_cell_that_looks() -> None:
    logits = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    term = torch.rand(2, 1, 2, 3, generator=torch.Generator().manual_seed(1))
    bias = bias_without_confidence(logits, term)
    assert bias.shape == logits.shape and bias[:, :, 0].equal(bias[:, :, 5])
    torch.testing.assert_close(bias[0, 0, 0], STRENGTH * (term[0, 0].flatten() - 1))
    assert (bias <= calibration_bias(logits, term) + 1e-5).all()  # confidence only ever protects


@pytest.mark.slow
def test_a_true_c_without_confidence_silences_the_planted_object(pair) -> None:
    rows = {name: ROWS[name] for name in ("no bias", "SCMA: own c, with ā", "true c, without ā")}
    verdicts = trial([pair], rows)
    assert list(verdicts) == list(rows) and all(values.shape == (1, 3) for values in verdicts.values())
    before, scma, after = (values[0] for values in verdicts.values())
    assert abs(scma - before).max() < 0.01
    assert before[0] > 0.9 and after[0] < 0.1 and after[1] > before[1] + 0.5


def test_more_planted_episodes_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="in 0 episodes 1 queries too few"):
        list(prepare(MODEL, Pictograms(0, episodes=0), 1))


def test_a_case_may_have_several_supports() -> None:
    case = make_case(MODEL, Pictograms(1, shots=2)[0])
    assert case.F_Q.shape == (1, 192, 16, 16) and case.F_S.shape == (1, 2, 192, 16, 16)
    assert case.Mem_S.shape == (1, 2, 24, 16, 16) and case.M_S.shape == (1, 2, 16, 16)
    assert case.read().shape == case.truth.shape

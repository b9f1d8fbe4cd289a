"""The shipped results: what the file holds, and how it is drawn behind and beside live scores."""

import pytest
from matplotlib.colors import to_rgb

from fss_lab.evaluation.variants import FULL, PRIOR_ALONE, STEPS
from fss_lab.figures import style
from fss_lab.figures.results import SHIPPED, results_figure, shipped_results, waterfall_figure
from fss_lab.metrics import SegmentationScore

UPPER_BOUND = "true query mask (upper bound)"


@pytest.mark.parametrize("shots", [1, 5])
def test_the_file_holds_every_step_on_every_fold_and_the_differences_on_all(shots):
    everywhere = shipped_results(shots)
    for fold in range(4):
        values = shipped_results(shots, fold)
        assert {name for name, _ in values} == {name for name, _ in everywhere}
        assert all(low <= estimate <= high for estimate, low, high in values.values())
    for name in (*STEPS, UPPER_BOUND):
        folds = [shipped_results(shots, fold)[name, ""].estimate for fold in range(4)]
        assert everywhere[name, ""].estimate == pytest.approx(sum(folds) / 4, abs=1e-4)
    for name, other in zip(STEPS[1:], STEPS, strict=False):
        apart = everywhere[name, ""].estimate - everywhere[other, ""].estimate
        assert everywhere[name, other].estimate == pytest.approx(apart, abs=2e-4)
    assert shipped_results(3) == {}
    assert SHIPPED.stat().st_size < 20_000


def bands(picture):
    return [bar for axes in picture.axes for bar in axes.patches if bar.get_facecolor()[:3] == to_rgb(style.PALE)]


def test_shipped_results_are_drawn_behind_the_variants_that_they_have():
    score = SegmentationScore([0], [[0, 6, 10, 80, 90]] * 3)
    scores = {FULL: score, "another": score}
    assert len(bands(results_figure({1: scores, 5: scores}, fold=2))) == 2
    assert len(bands(results_figure({1: scores, 3: scores}, fold=2))) == 1
    assert not bands(results_figure({1: scores})) and not bands(results_figure(scores))
    picture = results_figure({1: scores}, fold=2)
    assert picture.png() and [text.get_text() for text in picture.legends[0].get_texts()][0] == "this run"
    assert not results_figure({3: scores}, fold=2).legends


def test_a_waterfall_begins_each_bar_where_the_last_one_ended():
    steps = {name: f"step {number}" for number, name in enumerate((*STEPS, UPPER_BOUND))}
    large = {shots: shipped_results(shots) for shots in (1, 5)}
    picture = waterfall_figure(large, steps, "Title")
    assert picture.png() and picture.alt.startswith("Title; points of mIoU with 95 % intervals: 1-shot step 0 ")
    for axes, values in zip(picture.axes, large.values(), strict=True):
        ends = [bar.get_x() + bar.get_width() for bar in axes.patches]
        assert [bar.get_x() for bar in axes.patches] == pytest.approx([0, *ends[:-1]])
        assert ends == pytest.approx([100 * values[name, ""].estimate for name in steps])
    with pytest.raises(ValueError, match="no 1-shot result of \\('magic', ''\\)"):
        waterfall_figure({1: large[1]}, {PRIOR_ALONE: "prior", "magic": "magic"}, "Title")

"""Figures of notebook 09."""

import pytest

from fss_lab.figures.nb09_training import before_after_figure, parameters_figure, schedule_figure, small_objects_figure
from fss_lab.figures.results import curves_figure
from fss_lab.figures.style import Picture
from fss_lab.toyworld.pictograms import Pictograms


def test_small_objects():
    picture = small_objects_figure([0.5, 0.1], {"Dice": [0.9, 0.9], "cross-entropy": [2.0, 0.5]})
    assert isinstance(picture, Picture) and picture.png()
    assert "from 50 to 10 %" in picture.alt and "cross-entropy from 2.00 to 0.50" in picture.alt
    with pytest.raises(ValueError, match="each of the 2 shares"):
        small_objects_figure([0.5, 0.1], {"Dice": [0.9]})


def test_parameters():
    picture = parameters_figure({"memory encoder": (1000, 1000), "image encoder": (0, 5000)})
    assert picture.png() and "image encoder 0 of 5,000" in picture.alt
    with pytest.raises(ValueError, match="no parts"):
        parameters_figure({})


def test_schedule():
    picture = schedule_figure({"poly": [1e-3, 5e-4, 0.0]})
    assert picture.png() and "poly from 0.001 to 0" in picture.alt
    with pytest.raises(ValueError, match="no schedule"):
        schedule_figure({})


@pytest.mark.parametrize("rows", [2, 40])
def test_curves(rows):
    log = [{"step": 20.0 * n, "loss": 0.5 - 0.01 * n} for n in range(1, rows + 1)]
    validation = [{"step": 0.0, "miou": 0.2}, {"step": 20.0, "miou": 0.4}, {"step": 40.0, "miou": 0.3}]
    picture = curves_figure(log, validation)
    assert picture.png() and "the best 40.0 at step 20" in picture.alt
    assert picture.axes[1].lines[0].get_ydata().tolist() == [20, 40, 30]
    assert picture.axes[1].get_legend().get_texts()[0].get_text() == "best: 40.0"
    if rows == 40:  # a line; a few rows are bars
        assert picture.axes[0].lines[0].get_ydata().tolist() == [row["loss"] for row in log]
    alone = curves_figure(log)
    assert alone.png() and len(alone.axes) == 1 and "mIoU" not in alone.alt
    with pytest.raises(ValueError, match="at least one row"):
        curves_figure([])


@pytest.mark.parametrize(("fold", "shots"), [(0, 1), (2, 5)])
def test_before_after(fold, shots):
    episodes = [Pictograms(fold, shots=shots)[index] for index in range(2)]
    truths = [episode.query_mask == 1 for episode in episodes]
    picture = before_after_figure(episodes, [~truth for truth in truths], truths)
    assert picture.png() and f"{episodes[0].class_name} " in picture.alt and "to 100 %" in picture.alt
    with pytest.raises(ValueError, match="equal numbers"):
        before_after_figure(episodes, truths, truths[:1])

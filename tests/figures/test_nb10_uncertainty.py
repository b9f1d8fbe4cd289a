"""Figures of notebook 10."""

import numpy as np
import pytest
from helpers.pictures import titles

from fss_lab.datasets.protocols import BENCHMARKS, draw_episodes
from fss_lab.figures.nb10_uncertainty import bootstrap_figure, intervals_figure, protocol_figure
from fss_lab.figures.style import PALE, PREDICTION, Picture
from fss_lab.metrics import Interval
from fss_lab.toyworld.pictogram_images import PictogramImages


@pytest.mark.parametrize(("fold", "shots"), [(0, 1), (3, 5)])
def test_protocols(fold, shots):
    images = PictogramImages(fold, "novel", 45)
    lists = [draw_episodes(BENCHMARKS[name], images, shots, 8, 0) for name in BENCHMARKS]
    picture = protocol_figure(images, lists, count=4)
    assert isinstance(picture, Picture) and picture.png()
    asked = lists[1].episodes[3]
    expected = f"image {images.names.index(asked.query)}: {images.class_name(asked.class_id)}"
    assert len(titles(picture)) == 8 and titles(picture)[-1] == expected
    assert "fssam: image 0" in picture.alt and "hsnet: image 0" in picture.alt


def test_protocols_with_fewer_episodes_than_places():
    images = PictogramImages(1, "novel", 20)
    short = draw_episodes(BENCHMARKS["fssam"], images, 1, 2, 0)
    assert len(titles(protocol_figure(images, [short]))) == 2
    with pytest.raises(ValueError, match="at least one list"):
        protocol_figure(images, [])


def test_bootstrap():
    replicates = np.linspace(0.4, 0.6, 200)
    picture = bootstrap_figure(replicates, Interval(0.5, 0.405, 0.595), {5: Interval(0.4, 0.2, 0.7)})
    assert picture.png() and "between 40.5 and 59.5" in picture.alt and "5: 20 to 70" in picture.alt
    with pytest.raises(ValueError, match="got 0 and 1"):
        bootstrap_figure(np.empty(0), Interval(0.5, 0.4, 0.6), {5: Interval(0.4, 0.2, 0.7)})


def test_intervals_mark_zero_only_where_it_is_in_sight():
    rows = {"a − b": Interval(0.01, -0.02, 0.04), "c − d": Interval(0.05, -0.0001, 0.08)}
    picture = intervals_figure(rows, "Differences", "points", [PALE, PREDICTION])
    assert picture.png() and "a − b 1.0 [−2.0, 4.0]; c − d 5.0 [0.0, 8.0]" in picture.alt

    def zeros(drawn):
        return [line for line in drawn.axes[0].lines if list(line.get_xdata()) == [0, 0]]

    assert len(zeros(picture)) == 1
    assert not zeros(intervals_figure({"score": Interval(0.5, 0.4, 0.6)}, "Scores", "percent"))
    sample = intervals_figure(
        {"score": Interval(0.5, 0.4, 0.6)}, "Scores", "percent", behind=Interval(0.55, 0.54, 0.56)
    )
    assert sample.png() and "pale, on many more episodes 55.0; score 50.0" in sample.alt


def test_intervals_refuse():
    with pytest.raises(ValueError, match="no intervals"):
        intervals_figure({}, "None", "points")
    with pytest.raises(ValueError, match="1 rows, got 2"):
        intervals_figure({"a": Interval(0, 0, 0)}, "Colours", "points", [PALE, PALE])

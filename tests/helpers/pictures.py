"""Figures: what all of them promise."""

from matplotlib.backends.backend_agg import FigureCanvasAgg

from fss_lab.figures import Picture


def titles(picture: Picture) -> list[str]:
    """Draw a picture that is small and has an alternative text; returns the titles of its panels."""
    assert isinstance(picture, Picture) and picture.alt and picture.dpi <= 110 and picture.get_size_inches()[0] <= 10
    FigureCanvasAgg(picture).draw()
    return [axes.get_title() for axes in picture.axes if axes.get_visible() and axes.get_title()]

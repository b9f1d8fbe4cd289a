"""Interactive figures: every option is reachable, an error is seen, and a static picture stays."""

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from fss_lab.figures.style import Picture
from fss_lab.widgets.browse import Browse


@pytest.fixture
def calls():
    return []


@pytest.fixture
def browse(calls):
    def draw(episode, which, shown):
        calls.append((episode, which, shown))
        if (episode, which) == (2, "bad"):
            raise ValueError("no <such> picture")
        return Picture(1, 1, "", f"episode {episode} & {which}")

    return Browse(draw, episode=range(3), which=["good", "bad"], shown={"prior": 0, "mask": 1})


def test_show_takes_the_first_values_and_those_given(browse, calls):
    assert browse.show().alt == "episode 0 & good"
    assert browse.show(which="bad", shown=1).alt == "episode 0 & bad"
    assert calls == [(0, "good", 0), (0, "bad", 1)]
    with pytest.raises(ValueError, match="no <such> picture"):
        browse.show(episode=2, which="bad")


def test_unknown_names_and_values_are_refused(browse):
    with pytest.raises(ValueError, match="no control 'layer', only episode, which, shown"):
        browse.show(layer=1)
    with pytest.raises(ValueError, match=r"episode has no value 3, only \[0, 1, 2\]"):
        browse.show(episode=3)
    with pytest.raises(ValueError, match="at least one control"):
        Browse(browse.function)
    with pytest.raises(ValueError, match="at least one control"):
        Browse(browse.function, episode=[])


def test_controls_are_labelled_and_drive_the_picture(browse, calls):
    assert [control.description for control in browse.controls.values()] == ["episode", "which", "shown"]
    assert [control.label for control in browse.controls.values()] == ["0", "good", "prior"]
    browse.controls["shown"].label = "mask"
    browse.controls["episode"].value = 2
    assert calls == [(0, "good", 1), (2, "good", 1)]
    assert 'alt="episode 2 &amp; good"' in browse.view.value and "data:image/png;base64," in browse.view.value


def test_an_error_is_shown_and_raised(browse):
    browse.controls["which"].value = "bad"
    with pytest.raises(ValueError, match="no <such> picture"):
        browse.controls["episode"].value = 2
    assert "ValueError: no &lt;such&gt; picture" in browse.view.value and 'role="alert"' in browse.view.value
    assert browse.state.value == ""


def test_everything_can_be_pressed(browse, calls):
    browse.controls["shown"].value = 1
    assert browse.press_everything() == 3 + 2 + 2 - 1
    assert calls[1:] == [(1, "good", 1), (2, "good", 1), (0, "good", 1), (0, "bad", 1), (0, "good", 1), (0, "good", 0)]
    assert browse in Browse.instances


def test_a_static_picture_comes_first_then_the_panel(browse, calls):
    shell = InteractiveShell.instance()
    with capture_output() as shown:
        shell.display_formatter.format(browse)
    picture, panel = shown.outputs
    assert (
        picture.data["text/plain"] == "episode 0 & good" and picture.metadata["image/png"]["alt"] == "episode 0 & good"
    )
    assert "image/png" in picture.data
    assert "application/vnd.jupyter.widget-view+json" in panel.data
    assert browse.view.value == "" and calls == [(0, "good", 0)]
    InteractiveShell.clear_instance()

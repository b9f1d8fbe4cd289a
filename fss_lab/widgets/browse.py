"""Interactive figures that stay good pictures where nothing can be pressed: on GitHub, on paper, without a kernel."""

from __future__ import annotations

import base64
import html
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar
from weakref import WeakSet

import ipywidgets
from IPython.display import display

from fss_lab.errors import InputError
from fss_lab.figures.style import Picture


class Browse:
    """A figure with a control for each of its arguments.

        Browse(function, episode=range(6), layer=[0, 1], shown={"prior": 0, "mask": 1})

    As the last line of a cell it shows the figure of the first choice as a picture that stays in the notebook, and
    below it a slider for each range and a list for everything else. A second picture, below the controls, follows
    them; it appears with the first change.
    """

    instances: ClassVar[WeakSet[Browse]] = WeakSet()  # so that tests can press everything there is to press

    def __init__(self, function: Callable[..., Picture], **options: Sequence[Any] | Mapping[str, Any]) -> None:
        """function: called with one value for each name in options.

        options: the values to choose from, or a mapping from what the list shows to the value.
        Raises InputError if there is no name, or a name without values.
        """
        if not options or not all(len(_labelled(values)) for values in options.values()):
            raise InputError(f"Browse needs at least one control, and values for each; got {options}")
        self.function = function
        self.controls = {name: _control(name, values) for name, values in options.items()}
        self.view = ipywidgets.HTML()
        for control in self.controls.values():
            control.observe(lambda change: self._follow(), names="index")
        self.state = ipywidgets.Label()
        row = ipywidgets.HBox([*self.controls.values(), self.state], layout={"flex_flow": "row wrap"})
        self.panel = ipywidgets.VBox([row, self.view])
        Browse.instances.add(self)

    def show(self, **choice: Any) -> Picture:
        """The picture for these values; names left out have their first value.

        Raises InputError for a name or value that there is no control for, and whatever the function raises.
        """
        for name, value in choice.items():
            if name not in self.controls:
                raise InputError(f"there is no control {name!r}, only {', '.join(self.controls)}")
            values = [known for _, known in self.controls[name].options]
            if not any(known is value or known == value for known in values):
                raise InputError(f"{name} has no value {value!r}, only {values}")
        first = {name: control.options[0][1] for name, control in self.controls.items()}
        return self.function(**{**first, **choice})

    def press_everything(self) -> int:
        """Set each control to its second and last options, the others being at their first one, and back.

        Those between them would draw the same kind of picture once more. Returns how many pictures were drawn. Raises
        what the function raises for any of them.
        """
        drawn = 0
        for control in self.controls.values():
            for index in dict.fromkeys([min(1, last := len(control.options) - 1), last, 0]):
                drawn += control.index != index
                control.index = index
        return drawn

    def _ipython_display_(self) -> None:
        display(self.show())
        display(self.panel)

    def _follow(self) -> None:
        """Draw what the controls say. An error is shown in the picture's place, and raised."""
        self.state.value = "drawing …"
        try:
            picture = self.function(**{name: control.value for name, control in self.controls.items()})
            image = base64.b64encode(picture.png()).decode()
        except Exception as error:
            details = html.escape("".join(traceback.format_exception(error)))
            summary = html.escape(f"{type(error).__name__}: {error}")
            self.view.value = f'<details role="alert"><summary>⚠ {summary}</summary><pre>{details}</pre></details>'
            raise
        finally:
            self.state.value = ""
        self.view.value = (
            f'<img style="max-width: 100%" alt="{html.escape(picture.alt)}" src="data:image/png;base64,{image}">'
        )


def _labelled(values: Sequence[Any] | Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list(values.items()) if isinstance(values, Mapping) else [(str(value), value) for value in values]


def _control(name: str, values: Sequence[Any] | Mapping[str, Any]) -> ipywidgets.SelectionSlider | ipywidgets.Dropdown:
    """A slider for a range, which draws when it is let go, and a drop-down list for anything else."""
    common = {
        "options": _labelled(values),
        "description": name.replace("_", " "),
        "style": {"description_width": "auto"},
    }
    if isinstance(values, range):
        return ipywidgets.SelectionSlider(continuous_update=False, **common)
    return ipywidgets.Dropdown(**common)

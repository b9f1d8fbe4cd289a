"""The toy world's twenty classes: which drawing belongs to which name.

A drawing is a function that makes one draw of an *identity* of its class: proportions, forms and optional
pieces. Within a class they differ much; what stays is which parts there are and how they are laid out.
Colours and texture come later and tell nothing of the class.
"""

from __future__ import annotations

from collections.abc import Callable

from fss_lab.errors import InputError
from fss_lab.toyworld import drawings_animals as animals
from fss_lab.toyworld import drawings_home as home
from fss_lab.toyworld import drawings_plants as plants
from fss_lab.toyworld import drawings_things as things
from fss_lab.toyworld import drawings_vehicles as vehicles
from fss_lab.toyworld.drawing_tools import Rng
from fss_lab.toyworld.shapes import Part

_DRAWINGS = (  # a line for each fold, whose novel classes these are
    animals.fish, home.house, home.mug, plants.tree, things.key,
    vehicles.boat, animals.cat, home.chair, plants.flower, vehicles.airplane,
    vehicles.car, animals.bird, things.umbrella, things.guitar, plants.mushroom,
    animals.butterfly, home.lamp, vehicles.bicycle, home.teapot, animals.snail,
)  # fmt: skip
CLASSES: dict[str, Callable[[Rng], list[Part]]] = {drawing.__name__: drawing for drawing in _DRAWINGS}
"""Every class by name, by its class id: 5 i to 5 i + 4 are fold i's novel classes."""


def draw(name: str, rng: Rng) -> list[Part]:
    """One identity's drawing: its parts, back to front, centred and filling -1..1 in the longer direction (y down).

    name: one of `CLASSES`. rng: the source of every choice; the same state gives the same drawing.
    Raises InputError for another name.
    """
    if name not in CLASSES:
        raise InputError(f"no Pictograms class is called {name!r}; choose one of: {', '.join(CLASSES)}")
    return CLASSES[name](rng)

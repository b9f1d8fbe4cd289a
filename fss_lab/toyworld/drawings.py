"""The toy world's twenty classes: which drawing belongs to which name.

A drawing is a function that makes one draw of an *identity* of its class: proportions, forms and optional
pieces. Within a class they differ much; what stays is which parts there are and how they are laid out.
Colours and texture come later and tell nothing of the class.
"""

from __future__ import annotations

from collections.abc import Callable

from fss_lab.errors import InputError
from fss_lab.toyworld import drawings_animals, drawings_home, drawings_plants, drawings_things, drawings_vehicles
from fss_lab.toyworld.drawing_tools import Rng
from fss_lab.toyworld.shapes import Part

#: Every class by name, in the order of the folds: classes 5 i to 5 i + 4 are fold i's novel classes.
CLASSES: dict[str, Callable[[Rng], list[Part]]] = {
    "fish": drawings_animals.fish,
    "house": drawings_home.house,
    "mug": drawings_home.mug,
    "tree": drawings_plants.tree,
    "key": drawings_things.key,
    "boat": drawings_vehicles.boat,
    "cat": drawings_animals.cat,
    "chair": drawings_home.chair,
    "flower": drawings_plants.flower,
    "airplane": drawings_vehicles.airplane,
    "car": drawings_vehicles.car,
    "bird": drawings_animals.bird,
    "umbrella": drawings_things.umbrella,
    "guitar": drawings_things.guitar,
    "mushroom": drawings_plants.mushroom,
    "butterfly": drawings_animals.butterfly,
    "lamp": drawings_home.lamp,
    "bicycle": drawings_vehicles.bicycle,
    "teapot": drawings_home.teapot,
    "snail": drawings_animals.snail,
}


def draw(name: str, rng: Rng) -> list[Part]:
    """One identity's drawing: its parts, back to front, centred and filling -1..1 in the longer direction (y down).

    name: one of `CLASSES`. rng: the source of every choice; the same state gives the same drawing.
    Raises InputError for another name.
    """
    if name not in CLASSES:
        raise InputError(f"no Pictograms class is called {name!r}; choose one of: {', '.join(CLASSES)}")
    return CLASSES[name](rng)

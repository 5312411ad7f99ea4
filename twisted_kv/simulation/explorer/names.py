"""Which states of a small world differ in names alone, and the one that stands for all of them.

Nodes of a symmetric core, and commands, are interchangeable: exchanging their names in a whole state gives a state of
which the same follows. The least packed state of all exchanges stands for them. To try few: only orders in which the
nodes' *shapes*, what remains of a node without names, ascend. It refuses to know what a state means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import permutations, product
from typing import Any

from twisted_kv.simulation.explorer.frozen import renamed


class Numbers(dict[Any, int]):
    """Gives every value that it has not seen the next number; ``of`` leads back."""

    def __init__(self) -> None:
        self.of: list[Any] = []

    def __missing__(self, value: Any) -> int:
        number = self[value] = len(self.of)
        self.of.append(value)
        return number


class Renaming:
    """One exchange of names, with what it makes of each number remembered.

    Args:
        places: where the node at each place goes.
        commands: what each command is called then.
        node_fields: names of the fields that hold nodes.
        tidied: puts a value in order when its names were exchanged.

    Attributes:
        sent: for the owner to remember sets of messages by.
    """

    def __init__(
        self,
        places: Sequence[int],
        commands: Mapping[bytes, bytes],
        node_fields: frozenset[str],
        tidied: Callable[[Any], Any],
    ) -> None:
        self.places = places
        self._nodes = {place + 1: to + 1 for place, to in enumerate(places)}
        self._commands = commands
        self._fields = node_fields
        self._tidied = tidied
        self.sent: dict[int, int] = {}
        self._known: dict[int, dict[int, int]] = {}
        self.alters_nothing = all(place == to for place, to in enumerate(places)) and all(
            name == other for name, other in commands.items()
        )

    def of(self, numbers: Numbers, number: int) -> int:
        """The number, among these, of the value with this number under its other names."""
        known = self._known.setdefault(id(numbers), {})
        other = known.get(number)
        if other is None:
            other = known[number] = numbers[self.value(numbers.of[number])]
        return other

    def value(self, value: Any) -> Any:
        """The value under its other names."""
        return self._tidied(renamed(value, self._nodes, self._commands, self._fields))


class Renamings:
    """All exchanges of names in a world.

    Args:
        size: nodes.
        node_fields, tidied: as for Renaming.
    """

    def __init__(self, size: int, node_fields: frozenset[str], tidied: Callable[[Any], Any]) -> None:
        self._size = size
        self._tidied = tidied
        self._fields = node_fields
        self._chosen: dict[tuple[tuple[int, ...], int], tuple[Renaming, ...]] = {}
        self._made: dict[tuple[tuple[int, ...], tuple[int, ...]], Renaming] = {}

    def worth_trying(self, shapes: tuple[int, ...], commands: int) -> tuple[Renaming, ...]:
        """Those after which the shapes ascend, for each order of the first commands."""
        key = shapes, commands
        chosen = self._chosen.get(key)
        if chosen is None:
            orders = list(permutations(range(1, commands + 1)))
            found = [self._renaming(places, order) for places, order in product(_ascending(shapes), orders)]
            chosen = self._chosen[key] = tuple(found)
        return chosen

    def all(self) -> Iterable[Renaming]:
        """Every exchange of nodes."""
        return self.worth_trying((0,) * self._size, 0)

    def _renaming(self, places: tuple[int, ...], order: tuple[int, ...]) -> Renaming:
        made = self._made.get((places, order))
        if made is None:
            commands = {b"%d" % number: b"%d" % other for number, other in enumerate(order, 1)}
            made = self._made[places, order] = Renaming(places, commands, self._fields, self._tidied)
        return made


def _ascending(shapes: Sequence[int]) -> Iterable[tuple[int, ...]]:
    """Where each place may go, so that the shapes ascend afterwards."""
    wanted = sorted(shapes)
    for places in permutations(range(len(shapes))):
        if all(wanted[to] == shape for to, shape in zip(places, shapes, strict=True)):
            yield places

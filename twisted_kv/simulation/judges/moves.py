"""What a group may make of what it is told about shards, seen at every replica and over all its boots.

It decides: a group goes from one configuration to the next, each as the controllers made it, and refuses what
contradicts the one it is at; a chunk of a copy is taken in once and in its turn, however often and late it comes, and
a copy that is complete is row by row what its giver had when it was frozen; replicas that stand at one command have the
same left to do; and no write is logged of which no shard is served.

Source: hazards 26, 43 and 46; scenarios 21 to 35; decisions/0007. It knows neither networks nor Clerks; what keys hold
is for the Book.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted_kv.machines.commands import GROUP_COMMANDS, Configure, Done, Freeze, Install, Open, Refused, Write
from twisted_kv.machines.configuration import Configuration
from twisted_kv.machines.migration import Leaving
from twisted_kv.machines.shard import KEY_SPACE, SESSION_SPACE, Shard
from twisted_kv.simulation.judges.book import Book, home_of
from twisted_kv.simulation.judges.checkers import COPIED, IN_STEP, WORTH_LOGGING

Place = tuple[int, int]
"""Index of an entry, and position of a command in it."""


class Moves:
    """Watches the machines of all groups.

    Args:
        found: is given each finding: the name of the checker, and what does not hold.
        made: whether the controllers have made this configuration.

    Attributes:
        book: judges what clients are answered.
    """

    def __init__(self, found: Callable[[str, str], None], made: Callable[[Configuration], bool]) -> None:
        self.book = Book(found)
        self._found = found
        self._made = made
        self._groups: dict[int, _Group] = {}
        self._frozen: dict[tuple[int, int], Mapping[tuple[str, str], int]] = {}

    def proposed(self, command: bytes, machine: Any, name: str) -> None:
        """A leader puts a command into its log."""
        value = GROUP_COMMANDS.decode(command)
        if isinstance(value, Write):
            shards, serving = len(machine.configuration.shards), machine.serving
            homes = {home_of(operation.key, shards) for operation in value.operations}
            if not homes & serving:
                self._found(WORTH_LOGGING, f"{name} logs a write for {sorted(homes)} and serves {sorted(serving)}")

    def applied(self, gid: int, place: Place, command: bytes, reply: Any, machine: Any, name: str) -> None:
        """A machine of a group stands behind this command."""
        group = self._groups.get(gid)
        if group is None:
            group = self._groups[gid] = _Group()
        if place > group.latest:
            group.latest = place
            self._first(group, GROUP_COMMANDS.decode(command), reply, machine, name)
            group.left_to_do(place, machine.chores())
        elif group.known(place) != machine.chores():
            self._found(IN_STEP, f"{name} at {place} has to do {machine.chores()}; others had {group.known(place)}")

    def _first(self, group: _Group, value: Any, reply: Any, machine: Any, name: str) -> None:
        before, present = group.configuration, machine.configuration
        group.configuration = present
        match value:
            case Write():
                self.book.wrote(value, reply, machine, name)
            case Open():
                self.book.opened(value, reply, machine, name)
            case Configure():
                self._configured(value, reply, before, present, name)
                self._froze(machine)
            case Freeze():
                self._froze(machine)
            case Install() if reply == Done(True):
                self._installed(group, value, name)
                if value.last:
                    self._completed(value, machine, name)
        if present != before and not (isinstance(value, Configure) and present.num == before.num + 1):
            self._found(IN_STEP, f"{name} goes from configuration {before.num} to {present.num} by {value}")

    def _configured(
        self, value: Configure, reply: Any, before: Configuration, present: Configuration, name: str
    ) -> None:
        following = value.configuration
        if following.num == before.num > 0 and following != before and not isinstance(reply, Refused):
            self._found(IN_STEP, f"{name} is told of another configuration {before.num} and answers {reply}")
        if present != before and (present != following or not self._made(present)):
            self._found(IN_STEP, f"{name} follows a configuration {present.num} that the controllers never made")

    def _installed(self, group: _Group, value: Install, name: str) -> None:
        copy = (value.shard, value.num)
        due = group.chunks.get(copy, 0)
        if value.chunk != due:
            self._found(IN_STEP, f"{name} takes in chunk {value.chunk} of copy {copy}, not {due}")
        group.chunks[copy] = -1 if value.last else value.chunk + 1

    def _froze(self, machine: Any) -> None:
        """What leaves is written down as it is when it is frozen."""
        # Nobody else may look at the rows of a copy that is not served; they are to be read past all that is judged.
        for copy in machine._copies:
            if isinstance(copy.state, Leaving) and (copy.shard, copy.num) not in self._frozen:
                self._frozen[copy.shard, copy.num] = _rows_of(copy.contents)

    def _completed(self, value: Install, machine: Any, name: str) -> None:
        source = machine.configuration.sources[value.shard]
        given = self._frozen.get((value.shard, source.num)) if source is not None else None
        if given is None:
            self._found(COPIED, f"{name} has a complete copy {value.shard, value.num} of what nobody has frozen")
            return
        here = _rows_of(machine._copies.find(value.shard, value.num).contents)
        wrong = sorted({row for row, _ in here.items() ^ given.items()})
        if wrong:
            told = ", ".join(f"{row} {_what(here, given, row)}" for row in wrong[:5])
            self._found(COPIED, f"{name} has copy {value.shard, value.num} with {len(wrong)} rows wrong: {told}")


class _Group:
    """What is known of one group's log.

    Attributes:
        chunks: copy → the chunk that comes next; −1 when it is complete.
    """

    def __init__(self) -> None:
        self.latest: Place = (0, 0)
        self.configuration = Configuration()
        self.chunks: dict[tuple[int, int], int] = {}
        self._places: list[Place] = []
        self._chores: list[Sequence[Any]] = []

    def left_to_do(self, place: Place, chores: Sequence[Any]) -> None:
        """Behind this command that is left, and so it stays until more is said."""
        if not self._chores or self._chores[-1] != chores:
            self._places.append(place)
            self._chores.append(chores)

    def known(self, place: Place) -> Sequence[Any]:
        """What was left to do behind this command."""
        return self._chores[bisect_right(self._places, place) - 1]


def _rows_of(contents: Shard) -> Mapping[tuple[str, str], int]:
    """(space, name) → a hash of the value, of all that a copy holds for its users."""
    rows = {(SESSION_SPACE, name): zlib.crc32(value) for name, value in contents.sessions.rows()}
    for key, value in contents.data.items():
        rows[KEY_SPACE, key] = zlib.crc32(value.encode()) if isinstance(value, str) else ~zlib.crc32(value)
    return rows


def _what(here: Mapping[tuple[str, str], int], given: Mapping[tuple[str, str], int], row: tuple[str, str]) -> str:
    return "is missing" if row not in here else "should be gone" if row not in given else "is another"


class MovedMachine:
    """A group's machine that tells Moves what it does; all else is the machine's own."""

    def __init__(self, machine: Any, moves: Moves, gid: int, name: str) -> None:
        self._machine = machine
        self._moves = moves
        self._gid = gid
        self._name = name
        self._place = (0, 0)

    def apply(self, index: int, command: bytes) -> Any:
        reply = self._machine.apply(index, command)
        self._place = (index, self._place[1] + 1 if self._place[0] == index else 0)
        self._moves.applied(self._gid, self._place, command, reply, self._machine, self._name)
        return reply

    def query(self, query: Any) -> Any:
        answer = self._machine.query(query)
        self._moves.book.asked(query, answer, self._machine, self._name)
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

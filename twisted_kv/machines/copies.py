"""The copies of shards that a group holds: found by shard or by name, turned from state to state, kept as rows.

Of a shard there is at most one *current* copy, the one that configurations speak of; copies that are LEAVING
stand beside it until their takers have them (A → B → A, scenarios §3.3-30). A copy regained by the processes
that parked it gets a new name and keeps its rows where they are. Knows no configuration and no command.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Final

import msgspec

from twisted_kv.machines.giving import Giving
from twisted_kv.machines.migration import SERVED, Absent, Handing, Leaving, Pulling, State
from twisted_kv.machines.rows import Row, Value
from twisted_kv.machines.shard import Shard

COPY_SPACE: Final = "copy"
KEYS_FREED_AT_ONCE: Final = 5000


class Copies:
    """All copies of a group.

    Attributes:
        serving: shard → the copy that is served; kept in step by ``turn``.
    """

    def __init__(self) -> None:
        self.serving: dict[int, Copy] = {}
        self._by_shard: dict[int, list[Copy]] = {}
        self._gone: list[tuple[int, int]] = []
        self._garbage: list[Shard] = []

    def __iter__(self) -> Iterator[Copy]:
        """In ascending order of (shard, rows_num), whatever the order in which they came here."""
        for _, copies in sorted(self._by_shard.items()):
            yield from sorted(copies, key=lambda copy: copy.rows_num)

    def clear(self) -> None:
        """Forget all copies."""
        self._garbage += [copy.contents for copies in self._by_shard.values() for copy in copies]
        self.serving, self._by_shard, self._gone = {}, {}, []

    def tidy(self) -> None:
        """Free some of what forgotten copies held: a million keys at once take a tenth of a second."""
        while self._garbage:
            if self._garbage[-1].shed(KEYS_FREED_AT_ONCE):
                return
            self._garbage.pop()

    def current(self, shard: int) -> Copy | None:
        """The one copy of a shard that is not LEAVING."""
        for copy in self._by_shard.get(shard, ()):
            if not isinstance(copy.state, Leaving):
                return copy
        return None

    def find(self, shard: int, num: int) -> Copy | None:
        """The copy of this name."""
        for copy in self._by_shard.get(shard, ()):
            if copy.num == num:
                return copy
        return None

    def turn(self, shard: int, copy: Copy | None, num: int, state: State) -> None:
        """Give a copy a name and a state; None: make one. A copy that becomes ABSENT is gone, with all rows."""
        if copy is None:
            copy = self._added(shard, num)
        copy.become(num, state)
        if type(state) in SERVED:
            self.serving[shard] = copy
        elif self.serving.get(shard) is copy:
            del self.serving[shard]
        if isinstance(state, Absent):
            self._removed(copy)

    def load_keys(self, shard: int, rows_num: int, keys: dict[str, Value]) -> None:
        """Take back stored keys of any copy."""
        self._stored(shard, rows_num).contents.load_keys(keys)

    def load(self, row: Row, value: Value) -> None:
        """Take back a stored row of any copy, of any space."""
        copy = self._stored(row.shard, row.num)
        if row.space != COPY_SPACE:
            copy.contents.load(row.space, row.name, value, complete=not isinstance(copy.state, Pulling))
            return
        facts = _FACTS.decode(value)
        copy.stand(facts.num, facts.state)
        if type(copy.state) in SERVED:
            self.serving[row.shard] = copy

    def take(self, spaces: dict[tuple[int, int, str], dict[str, Value | None]]) -> list[tuple[int, int]]:
        """Add all changed rows to ``spaces``; returns the (shard, rows_num) of copies that are gone."""
        for copies in self._by_shard.values():
            for copy in copies:
                copy.take(spaces)
        gone, self._gone = self._gone, []
        return gone

    def _stored(self, shard: int, rows_num: int) -> Copy:
        copy = next((copy for copy in self._by_shard.get(shard, ()) if copy.rows_num == rows_num), None)
        return self._added(shard, rows_num) if copy is None else copy

    def _added(self, shard: int, rows_num: int) -> Copy:
        copy = Copy(shard, rows_num)
        self._by_shard.setdefault(shard, []).append(copy)
        return copy

    def _removed(self, copy: Copy) -> None:
        copies = self._by_shard[copy.shard]
        copies.remove(copy)
        if not copies:
            del self._by_shard[copy.shard]
        self._gone.append((copy.shard, copy.rows_num))
        self._garbage.append(copy.contents)


class Copy:
    """One copy of a shard.

    Attributes:
        shard, num: its name.
        rows_num: the num under which its rows are stored: the first one it had.
        state: where it stands (migration).
        contents: what it holds.
    """

    def __init__(self, shard: int, rows_num: int) -> None:
        self.shard = shard
        self.num = rows_num
        self.rows_num = rows_num
        self.state: State = Absent()
        self.contents = Shard()
        self._turned = False

    @cached_property
    def giving(self) -> Giving:
        """What its taker is given, from the moment when somebody asks."""
        assert isinstance(self.state, Handing | Leaving)
        return Giving(self.shard, self.num, self.contents)

    @property
    def facts(self) -> str:
        """Name and state as JSON text, the value of its row in the space "copy"."""
        return msgspec.json.encode(_Facts(self.num, self.state)).decode()

    def become(self, num: int, state: State) -> None:
        """Take a name and a state; the next checkpoint is owed a row that says so."""
        self.stand(num, state)
        self._turned = True

    def stand(self, num: int, state: State) -> None:
        """Have a name and a state, as the rows say already."""
        if isinstance(state, Handing | Leaving):
            self.contents.watch()
        self.num, self.state = num, state

    def take(self, spaces: dict[tuple[int, int, str], dict[str, Value | None]]) -> None:
        """Add the rows that changed since the last call."""
        shard, num = self.shard, self.rows_num
        for space, rows in self.contents.take().items():
            spaces[shard, num, space] = rows
        if self._turned:
            spaces[shard, num, COPY_SPACE] = {"": self.facts}
            self._turned = False


class _Facts(msgspec.Struct, frozen=True):
    num: int
    state: State


_FACTS: Final = msgspec.json.Decoder(_Facts)

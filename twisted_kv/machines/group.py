"""The machine of a replica group: which shards it serves, what it does to them, and how they come and go.

Decides by the log alone: ownership is checked where a command is applied (scenarios §3.3-23, hazard 26), a
configuration takes effect where it is applied (§3.3-22), rows of a gained shard enter through commands, and a
copy is deleted by a command that names it (§3.3-30). What is left for a leader to do is derived from the state
(``chores``). Refuses to know time, network, who leads, and how an order was reached.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import msgspec

from twisted_kv.constants import ROWS_CHUNK_BYTES
from twisted_kv.machines.commands import (
    GROUP_COMMANDS,
    AskDrop,
    Chore,
    Configure,
    Done,
    Drop,
    Dropped,
    Freeze,
    HandOver,
    Install,
    NextConfiguration,
    Open,
    Outcome,
    Pull,
    PullAnswer,
    PullRows,
    Read,
    Refused,
    Scan,
    Scanned,
    Write,
    WrongGroup,
)
from twisted_kv.machines.configuration import Configuration, Holder, shard_of
from twisted_kv.machines.copies import Copies, Copy
from twisted_kv.machines.migration import (
    HOLDING_BACK,
    Absent,
    Arrived,
    Completed,
    Event,
    Frozen,
    Gained,
    Handing,
    Leaving,
    Parked,
    Pulling,
    Regained,
    Released,
    Serving,
    Started,
    State,
    advanced,
    befallen,
)
from twisted_kv.machines.rows import BEGINNING, MACHINE_SHARD, ChangedRows, Changes, Row, Value
from twisted_kv.machines.shard import KEY_SPACE

_CONFIGURATION_SPACE: Final = "configuration"
_OWED_SPACE: Final = "owed"

_YES: Final = Done(True)
_NO: Final = Done(False)


class GroupMachine:
    """An IStateMachine over GROUP_COMMANDS. Queries: Read, Scan, PullRows.

    Args:
        gid: the group's number, by which configurations name it.
    """

    _standing: _Standing
    _owed: dict[tuple[int, int], _Owed]
    _changed: dict[tuple[str, str], str | None]
    _chores: tuple[Chore, ...] | None

    def __init__(self, gid: int) -> None:
        self._gid = gid
        self._commands: Mapping[type, Callable[[Any], Any]] = {
            Write: self._write,
            Open: self._open,
            Configure: self._configure,
            Install: self._install,
            Freeze: self._freeze,
            Drop: self._drop,
            Dropped: self._dropped,
        }
        self._copies = Copies()
        self.clear()

    # ── IStateMachine ──────────────────────────────────────────────────────────────────────────────

    def apply(self, index: int, command: bytes) -> Any:
        """Replies: Write and Open a tuple of Outcomes; the others Done(True) if the command changed something
        or what it asks for is so already, Done(False) if it was ignored, Refused if it contradicts the state.

        Raises:
            Malformed: the command is not one of GROUP_COMMANDS; the door lets none such in.
        """
        value = GROUP_COMMANDS.decode(command)
        return self._commands[type(value)](value)

    def query(self, query: Read | Scan | PullRows) -> tuple[Outcome, ...] | Scanned | WrongGroup | PullAnswer:
        """Read → a tuple of Done(value or None) or WrongGroup; Scan → Scanned or WrongGroup; PullRows → PullAnswer."""
        if isinstance(query, Read):
            return tuple([self._read(key) for key in query.keys])
        return self._scanned(query) if isinstance(query, Scan) else self._pulled(query)

    def chores(self) -> Sequence[Chore]:
        """At most one NextConfiguration, then per copy in ascending order Pull or HandOver, then AskDrops."""
        if self._chores is None:
            self._chores = tuple(self._derived_chores())
        return self._chores

    def take_changes(self) -> Changes:
        spaces: dict[tuple[int, int, str], dict[str, Value | None]] = {}
        for (space, name), text in self._changed.items():
            spaces.setdefault((MACHINE_SHARD, 0, space), {})[name] = text
        self._changed = {}
        return Changes(self._copies.take(spaces), ChangedRows(spaces))

    def load(self, rows: Iterable[Row]) -> None:
        """Rows as ``take_changes`` gave them, in ascending order of their keys."""
        for (shard, num, space), found in groupby(rows, key=attrgetter("shard", "num", "space")):
            if space == KEY_SPACE:
                keys = {row.name: row.value for row in found}
                self._copies.load_keys(shard, num, keys)  # type: ignore[arg-type]  # a stored row has a value
                continue
            for row in found:
                assert row.value is not None, "a stored row has a value"
                if row.shard == MACHINE_SHARD:
                    self._load_own(row, row.value)
                else:
                    self._copies.load(row, row.value)
        self._chores = None

    def clear(self) -> None:
        self._standing = _Standing("", False, Configuration())
        self._copies.clear()
        self._owed = {}
        self._changed = {}
        self._chores = None

    def tidy(self) -> None:
        self._copies.tidy()

    def digest(self) -> int:
        total = zlib.crc32(_text(self._standing).encode())
        for name, owed in sorted(self._owed.items()):
            total = zlib.crc32(f"{name}{_text(owed)}".encode(), total)
        for copy in self._copies:
            facts = f"{copy.shard}/{copy.rows_num}/{copy.facts}/{copy.contents.digest()}"
            total = zlib.crc32(facts.encode(), total)
        return total

    def status(self) -> Mapping[str, Any]:
        """Keys and bytes of all copies held; ``shards``: served or parked here; ``copies`` of any phase;
        ``migrations``: copies on their way in or out and drops owed. All zero: nothing is held here any more.
        ``arriving``: of each copy that is being pulled and has begun to come, its shard, the group it comes from, the
        bytes that are here, and ``total_bytes``, which may grow."""
        copies = list(self._copies)
        return {
            "keys": sum(len(copy.contents.data) for copy in copies),
            "bytes": sum(copy.contents.bytes for copy in copies),
            "shards": sum(isinstance(copy.state, Serving | Handing | Parked) for copy in copies),
            "copies": len(copies),
            "migrations": sum(isinstance(copy.state, Pulling | Handing | Leaving) for copy in copies) + len(self._owed),
            "arriving": [
                {
                    "shard": copy.shard,
                    "from": copy.state.source.gid,
                    "bytes": copy.contents.bytes,
                    "total_bytes": copy.state.total_bytes,
                }
                for copy in copies
                if isinstance(copy.state, Pulling) and copy.state.chunk
            ],
            "sessions": sum(len(copy.contents.sessions) for copy in copies),
            "configuration": self._standing.configuration.num,
            "cluster": self._standing.cluster,
        }

    # ── for the servers around it ──────────────────────────────────────────────────────────────────

    @property
    def configuration(self) -> Configuration:
        """The one this group is at."""
        return self._standing.configuration

    @property
    def cluster(self) -> str:
        """The controller's cluster id; empty before the first configuration."""
        return self._standing.cluster

    def turned_away(self, command: Write) -> tuple[WrongGroup, ...] | None:
        """The outcomes of a command none of whose shards is served here; None if any is: then the log decides.

        Spares the log the retries of clients that wait for a shard to arrive (§3.3-31).
        """
        shards, serving = len(self._standing.configuration.shards), self._copies.serving
        away: list[WrongGroup] = []
        for operation in command.operations:
            shard = shard_of(operation.key, shards)
            if shard in serving:
                return None
            away.append(self._elsewhere(shard))
        return tuple(away)

    @property
    def serving(self) -> frozenset[int]:
        """Shards of which keys are read and written here, by what is applied."""
        return frozenset(self._copies.serving)

    def is_frozen(self, shard: int, num: int) -> bool:
        """Whether the copy of this name is here and will never change again."""
        copy = self._copies.find(shard, num)
        return copy is not None and isinstance(copy.state, Leaving)

    def shards_status(self) -> list[dict[str, Any]]:
        """One line per copy held, for people: shard, num, phase with what it needs, keys, bytes, sessions."""
        return [
            {
                "shard": copy.shard,
                "num": copy.num,
                **msgspec.to_builtins(copy.state),
                "keys": len(copy.contents.data),
                "bytes": copy.contents.bytes,
                "sessions": len(copy.contents.sessions),
            }
            for copy in self._copies
        ]

    # ── clients ────────────────────────────────────────────────────────────────────────────────────

    def _write(self, command: Write) -> tuple[Outcome, ...]:
        configuration = self._standing.configuration
        shards, value_bytes_max = len(configuration.shards), configuration.value_bytes_max
        serving = self._copies.serving
        outcomes: list[Outcome] = []
        for operation in command.operations:
            shard = shard_of(operation.key, shards)
            copy = serving.get(shard)
            # Elsewhere is no outcome of the operation and is not recorded: the taker executes the retry (§3.2-14).
            outcomes.append(
                copy.contents.execute(operation, value_bytes_max) if copy is not None else self._elsewhere(shard)
            )
        return tuple(outcomes)

    def _open(self, command: Open) -> tuple[Outcome, ...]:
        return tuple([self._opened(shard, command.nonce) for shard in command.shards])

    def _opened(self, shard: int, nonce: bytes) -> Outcome:
        copy = self._copies.serving.get(shard)
        return self._elsewhere(shard) if copy is None else Done(copy.contents.sessions.open(nonce))

    def _read(self, key: str) -> Outcome:
        shard = shard_of(key, len(self._standing.configuration.shards))
        copy = self._copies.serving.get(shard)
        return self._elsewhere(shard) if copy is None else Done(copy.contents.data.get(key))

    def _scanned(self, query: Scan) -> Scanned | WrongGroup:
        copy = self._copies.serving.get(query.shard)
        return (
            self._elsewhere(query.shard)
            if copy is None
            else copy.contents.scan(query.after, min(query.bytes_max, ROWS_CHUNK_BYTES))
        )

    def _elsewhere(self, shard: int) -> WrongGroup:
        configuration = self._standing.configuration
        copy = self._copies.current(shard)
        if copy is not None and isinstance(copy.state, Pulling):
            gid = copy.state.source.gid
        else:
            gid = configuration.shards[shard] if 0 <= shard < len(configuration.shards) else 0
        # Our own gid would send the client round in a circle: it may be other processes, the controller knows.
        return WrongGroup(configuration.num, gid if gid != self._gid else 0)

    # ── configurations ─────────────────────────────────────────────────────────────────────────────

    def _configure(self, command: Configure) -> Outcome:
        present, following = self._standing.configuration, command.configuration
        refused = self._fenced(command)
        if refused is not None:
            return refused
        if following.num != present.num + 1 or self._held_back():
            return _NO
        turns: list[tuple[int, Copy | None, int, State]] = []
        for shard, gid in enumerate(following.shards):
            copy = self._copies.current(shard)
            num, state = (copy.num, copy.state) if copy is not None else (0, Absent())
            event = befallen(following, shard, command.mine and gid == self._gid, num, state)
            successor = advanced(state, event)
            if successor is None:
                return _contradiction(f"shard {shard} is {_text(state)} here")
            if successor is not state:
                named = event.num if isinstance(event, Started | Gained | Regained) else num
                turns.append((shard, copy, named, successor))
        # Nothing was changed up to here: a configuration is taken as a whole or not at all.
        for turn in turns:
            self._copies.turn(*turn)
        self._standing = _Standing(command.cluster, command.mine, following)
        self._changed[_CONFIGURATION_SPACE, "current"] = _text(self._standing)
        self._readdress()
        self._chores = None
        return _YES

    def _held_back(self) -> bool:
        return any(type(copy.state) in HOLDING_BACK for copy in self._copies)

    def _fenced(self, command: Configure) -> Refused | None:
        """Another controller, or one that was rolled back and tells another history (hazard 46)."""
        present, following = self._standing.configuration, command.configuration
        if self._standing.cluster not in ("", command.cluster):
            return Refused(
                "BadRequest", f"this group belongs to cluster {self._standing.cluster}, not {command.cluster}"
            )
        if present.num == 0:
            return None
        if following.num == present.num and following != present:
            return _contradiction(f"configuration {present.num} was another one")
        if len(following.shards) != len(present.shards):
            return _contradiction(f"there are {len(present.shards)} shards, not {len(following.shards)}")
        return None

    def _readdress(self) -> None:
        """Follow givers that moved house; what later configurations forget stays as it was last known."""
        for (shard, num), owed in self._owed.items():
            endpoints = self._standing.configuration.endpoints_of(owed.source)
            if endpoints and endpoints != owed.endpoints:
                self._note_owed(shard, num, _Owed(owed.source, endpoints))

    # ── shards in motion ───────────────────────────────────────────────────────────────────────────

    def _install(self, command: Install) -> Done:
        copy = self._copies.find(command.shard, command.num)
        if copy is None or not isinstance(copy.state, Pulling):
            return _NO
        pulling = copy.state
        arrived = Arrived(command.chunk, command.cursor, command.level, command.total_bytes)
        if not self._befall(copy, Completed(command.chunk) if command.last else arrived):
            return _NO
        copy.contents.install(command.rows)
        if command.last:
            copy.contents.complete()
            self._note_owed(copy.shard, pulling.source.num, _Owed(pulling.source, pulling.endpoints))
        return _YES

    def _freeze(self, command: Freeze) -> Done:
        copy = self._copies.find(command.shard, command.num)
        if copy is None:
            return _NO
        self._befall(copy, Frozen())
        return _YES if isinstance(copy.state, Leaving) else _NO

    def _drop(self, command: Drop) -> Done:
        copy = self._copies.find(command.shard, command.num)
        if copy is None:
            return _YES if self._knows(command.num) else _NO
        return _YES if self._befall(copy, Released()) else _NO

    def _befall(self, copy: Copy, event: Event) -> bool:
        """Let an event befall a copy; whether it changed anything."""
        successor = advanced(copy.state, event)
        assert successor is not None, "only configurations can contradict a state"
        if successor is copy.state:
            return False
        self._copies.turn(copy.shard, copy, copy.num, successor)
        self._chores = None
        return True

    def _dropped(self, command: Dropped) -> Done:
        if (command.shard, command.num) not in self._owed:
            return _NO
        self._note_owed(command.shard, command.num, None)
        self._chores = None
        return _YES

    def _pulled(self, query: PullRows) -> PullAnswer:
        copy = self._copies.find(query.shard, query.num)
        if copy is None:
            return PullAnswer("gone" if self._knows(query.num) else "wait")
        if not isinstance(copy.state, Handing | Leaving):
            return PullAnswer("wait")
        frozen, bytes_max = isinstance(copy.state, Leaving), min(query.bytes_max, ROWS_CHUNK_BYTES)
        # What fits into one chunk is not worth a second question.
        small = query.cursor == BEGINNING and copy.contents.bytes <= bytes_max
        if not frozen and (query.hand or small):
            return PullAnswer("handing")
        if not copy.giving.prepare():
            return PullAnswer("sorting")
        rows, cursor, level = copy.giving.chunk(query.cursor, bytes_max)
        return PullAnswer("rows" if frozen else "ahead", rows, cursor, level, frozen and level, copy.contents.bytes)

    def _knows(self, num: int) -> bool:
        """Whether a copy of this num, if it was ever to be here, has come to be: only Configure(num) makes one."""
        return self._standing.configuration.num >= num

    def _derived_chores(self) -> Iterator[Chore]:
        if not self._held_back():
            yield NextConfiguration(self._standing.configuration.num + 1)
        for copy in self._copies:
            state = copy.state
            if isinstance(state, Pulling):
                facts = (state.chunk, state.cursor, state.hand, state.hurried)
                yield Pull(copy.shard, copy.num, state.source, state.endpoints, *facts)
            elif isinstance(state, Handing):
                yield HandOver(copy.shard, copy.num, state.taker)
        for (shard, num), owed in sorted(self._owed.items()):
            yield AskDrop(shard, num, owed.source, owed.endpoints)

    def _note_owed(self, shard: int, num: int, owed: _Owed | None) -> None:
        if owed is None:
            del self._owed[shard, num]
        else:
            self._owed[shard, num] = owed
        self._changed[_OWED_SPACE, f"{shard}/{num}"] = None if owed is None else _text(owed)

    def _load_own(self, row: Row, value: Value) -> None:
        if row.space == _OWED_SPACE:
            shard, _, num = row.name.partition("/")
            self._owed[int(shard), int(num)] = msgspec.json.decode(value, type=_Owed)
        else:
            assert row.space == _CONFIGURATION_SPACE, f"a group has no space {row.space!r}"
            self._standing = msgspec.json.decode(value, type=_Standing)


class _Standing(msgspec.Struct, frozen=True):
    """Where the group stands: whose it is, and the configuration it is at; ``mine`` as in Configure."""

    cluster: str
    mine: bool
    configuration: Configuration


class _Owed(msgspec.Struct, frozen=True):
    """A copy was taken over from ``source``, who keeps it until told to drop it."""

    source: Holder
    endpoints: tuple[str, ...]


def _text(value: msgspec.Struct) -> str:
    return msgspec.json.encode(value).decode()


def _contradiction(what: str) -> Refused:
    return Refused("BadRequest", f"this configuration does not follow from what this group has applied: {what}")

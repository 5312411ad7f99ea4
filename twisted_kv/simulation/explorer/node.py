"""One core with its disk and its corridor, as a value: what comes in, what it becomes, what it says and shows.

``react`` is a pure function of a node's value and one event, so its results can be remembered. It carries out each
Ready in the contract's order (early, save, mail, apply, answer, advance); a save may be held, which leaves the moments
in which a crash hurts. What can be judged of one node alone is judged here, in the same step: nothing leaves that the
disk does not back, disks never take back a term, a vote or what is committed, and what is applied stands in the
node's own log. What it refuses to know: which core it is (``Core``), and the other nodes.

Source: interfaces.IConsensus for the order; Raft Figure 2 for what must be durable before what.
"""

from __future__ import annotations

from traceback import extract_tb
from typing import Any, ClassVar, Final, NamedTuple, Protocol

import msgspec

from twisted_kv.consensus.types import (
    Entry,
    HardState,
    NotLeader,
    Position,
    ReadIndex,
    Ready,
    Restored,
    SnapshotFailed,
    SnapshotInstalled,
    SnapshotSource,
)
from twisted_kv.interfaces import IConsensus
from twisted_kv.simulation.explorer.frozen import Neutral, freeze, thaw

ROUNDS_MAX: Final = 64
"""Readys that one event may lead to."""


class View(NamedTuple):
    """What can be seen of a core.

    Attributes:
        leads: whether it believes to lead ``term``.
        commit: everything at or below it is committed, as far as this node knows.
        entries: what is in its log above ``boundary``, saved or not, ascending.
    """

    leads: bool
    term: int
    commit: int
    boundary: Position
    entries: tuple[Entry, ...]


class Core(Protocol):
    """What must be known of a kind of core to explore it.

    Attributes:
        name: as the command line has it.
        symmetric: whether the core treats all nodes alike, so that states that differ in names alone are one.
        node_fields: names of the fields, of the core and of its messages, that hold nodes.
        neutral: fields that are not remembered as they are: those that hold time, above all.
    """

    name: ClassVar[str]
    symmetric: ClassVar[bool]
    node_fields: ClassVar[frozenset[str]]
    neutral: ClassVar[Neutral]

    def boot(self, node: int, voters: frozenset[int], restored: Restored, applied: int) -> IConsensus:
        """A core as after a start of the process."""

    def elapse(self, core: Any, what: str) -> bool:
        """Let the time of ``what`` pass: "timeout", "heartbeat", "silence" or "late"; False: not for what it is now.

        timeout: whoever does not lead gives up on the leader. heartbeat: a leader speaks. silence: a leader gives up.
        late: whoever does not lead has waited long, but not long enough to give up.
        """

    def look(self, core: Any) -> View:
        """What can be seen of it."""

    def unbacked(self, message: Any, disk: Disk) -> str:
        """What this message, which leaves now, says that the disk of its sender does not hold; "" if all is well."""


class Disk(NamedTuple):
    """What survives a crash: the log store, and rows that stand at its boundary."""

    hard_state: HardState = HardState()
    boundary: Position = Position()
    entries: tuple[Entry, ...] = ()

    @property
    def last(self) -> int:
        """The highest index held."""
        return self.entries[-1].index if self.entries else self.boundary.index

    def after(self, ready: Ready) -> Disk:
        """This disk when the Ready is saved."""
        hard_state, held = ready.hard_state or self.hard_state, self.entries
        if ready.cut is None and (not ready.entries or not held or ready.entries[0].index > held[-1].index):
            return Disk(hard_state, self.boundary, held + ready.entries)
        entries = {entry.index: entry for entry in self.entries if ready.cut is None or entry.index < ready.cut}
        entries.update((entry.index, entry) for entry in ready.entries)
        ascending = tuple(entries[index] for index in sorted(entries))
        return Disk(hard_state, self.boundary, ascending)

    def beyond(self, boundary: Position) -> Disk:
        """This disk when rows at the boundary are durable and the log is cut there."""
        kept = tuple(entry for entry in self.entries if entry.index > boundary.index)
        return Disk(self.hard_state, boundary, kept)

    def holds(self, index: int, term: int) -> bool:
        """Whether what is committed as (index, term) is on it."""
        if index <= self.boundary.index:
            return True
        return any(entry.index == index and entry.term == term for entry in self.entries)


class Node(NamedTuple):
    """A node between two events.

    Attributes:
        core: frozen.
        applied: what the machine contains.
        saving: the Ready of which the save is under way.
        reads: confirmed, and waiting for their index to be applied.
        fetch: rows that the core asked for.
    """

    node: int
    core: Any
    disk: Disk
    applied: int
    saving: Ready | None = None
    reads: tuple[ReadIndex, ...] = ()
    fetch: SnapshotSource | None = None


class Reaction(NamedTuple):
    """What became of an event.

    Attributes:
        node: the node then.
        mail: what leaves now.
        acknowledged: the highest index of a proposal whose caller was told that it is done; 0: none.
        answered: reads answered now, each with the index that the machine stood at.
        wrong: what must not happen and did.
    """

    node: Node
    mail: tuple[Any, ...] = ()
    acknowledged: int = 0
    answered: tuple[tuple[int, int], ...] = ()
    wrong: str = ""


class Refused(Exception):
    """The event cannot happen to this node now."""


class Corridor:
    """Carries one event through one node.

    Args:
        core: which kind.
        voters: all nodes.
    """

    _core: Any

    def __init__(self, core: Core, voters: frozenset[int]) -> None:
        self._kind = core
        self._voters = voters
        self._readys: dict[Ready, Ready] = {}
        self._neutral: Neutral = {**core.neutral, Ready: self._one}

    def born(self, node: int, disk: Disk) -> Node:
        """A node that starts from this disk."""
        made = self._kind.boot(
            node, self._voters, Restored(disk.hard_state, disk.boundary, disk.entries), disk.boundary.index
        )
        while (ready := made.ready()) is not None:
            assert not (ready.must_save or ready.early or ready.messages or ready.committed), "a start does nothing"
            made.advance(ready)
        return Node(node, freeze(made, self._neutral), disk, disk.boundary.index)

    def tidied(self, node: Node) -> Node:
        """The node as ``react`` would have given it: to be done when its names were exchanged."""
        saving = None if node.saving is None else self._one(node.saving)
        return node._replace(core=freeze(thaw(node.core), self._neutral), saving=saving)

    def _one(self, ready: Ready) -> Ready:
        """The one Ready that stands for all that differ in the order of their mail alone."""
        early, messages = sorted(ready.early, key=repr), sorted(ready.messages, key=repr)
        same = msgspec.structs.replace(ready, early=tuple(early), messages=tuple(messages))
        return self._readys.setdefault(same, same)

    def react(self, node: Node, event: tuple[Any, ...], held: bool) -> Reaction:
        """What becomes of this node.

        Args:
            event: ("step", message), ("late", message), ("propose", command), ("read", token), ("elapse", what),
                ("saved",), ("crash", whether the save under way is durable), ("compact",), ("rows", position or None).
            held: whether a save that begins now stays under way; else it ends at once.
        Raises:
            Refused: the event cannot happen now.
        """
        self._node, self._disk = node.node, node.disk
        self._applied, self._saving, self._reads, self._fetch = node.applied, node.saving, node.reads, node.fetch
        self._mail: list[Any] = []
        self._acknowledged = 0
        self._answered: list[tuple[int, int]] = []
        self._wrong = ""
        try:
            if event[0] == "crash":
                return self._crashed(event[1])
            self._core = thaw(node.core)
            commit = self._kind.look(self._core).commit
            self._happen(event)
            self._pump(held)
            if self._kind.look(self._core).commit < commit:
                self._found(f"commit monotonic: {self._node} takes back the commit of {commit}")
        except Refused:
            raise
        except Exception as error:
            # The core never raises on what comes in; whatever it was, the path to it is what is wanted.
            where = extract_tb(error.__traceback__)[-1]
            self._found(f"assertion: {type(error).__name__} in {where.name}, {where.line!r}: {error}")
            return Reaction(node, wrong=self._wrong)
        after = Node(
            self._node,
            freeze(self._core, self._neutral),
            self._disk,
            self._applied,
            None if self._saving is None else self._one(self._saving),
            self._reads,
            self._fetch,
        )
        # The same thing said twice in one breath is once too many lost.
        mail = tuple(dict.fromkeys(self._mail))
        return Reaction(after, mail, self._acknowledged, tuple(self._answered), self._wrong)

    def _happen(self, event: tuple[Any, ...]) -> None:
        core, kind = self._core, event[0]
        if kind == "step":
            core.step(event[1])
        elif kind == "late":
            if not self._kind.elapse(core, "late"):
                raise Refused
            core.step(event[1])
        elif kind == "elapse":
            if not self._kind.elapse(core, event[1]):
                raise Refused
        elif kind in ("propose", "read"):
            try:
                getattr(core, kind)(event[1])
            except NotLeader:
                raise Refused from None
        elif kind == "saved":
            if self._saving is None:
                raise Refused
            self._end_save(self._saving)
        elif kind == "compact":
            self._compact()
        else:
            self._install(event[1])

    def _compact(self) -> None:
        """A checkpoint of what is applied is durable."""
        if self._applied <= self._disk.boundary.index or self._saving is not None:
            raise Refused
        [term] = [entry.term for entry in self._disk.entries if entry.index == self._applied]
        self._disk = self._disk.beyond(Position(self._applied, term))
        self._core.compact(self._applied)

    def _install(self, rows: Position | None) -> None:
        """Rows have come, or will not."""
        if self._fetch is None or self._saving is not None:
            raise Refused
        wanted, self._fetch = self._fetch, None
        if rows is None or rows.index < wanted.index or rows.index <= self._applied:
            self._core.step(SnapshotFailed())
            return
        self._disk = Disk(self._disk.hard_state, rows)
        self._applied = rows.index
        self._core.step(SnapshotInstalled(rows.index, rows.term))

    def _crashed(self, durable: bool) -> Reaction:
        """Everything but the disk is gone; the node is back at once, since time is nobody's."""
        disk = self._disk
        if durable:
            if self._saving is None:
                raise Refused
            disk = self._saved(disk, self._saving)
        return Reaction(self.born(self._node, disk), wrong=self._wrong)

    def _pump(self, held: bool) -> None:
        rounds = 0
        while self._saving is None and (ready := self._core.ready()) is not None:
            rounds += 1
            if rounds > ROUNDS_MAX:
                self._found(f"settles: {self._node} always has something more to do")
                return
            self._send(ready.early)
            if held and ready.must_save:
                self._saving = ready
                return
            self._end_save(ready)

    def _end_save(self, ready: Ready) -> None:
        """The save is durable: send, apply, answer, advance."""
        self._saving = None
        if ready.must_save:
            self._disk = self._saved(self._disk, ready)
        self._send(ready.messages)
        view = self._kind.look(self._core)
        for entry in ready.committed:
            if entry.index != self._applied + 1:
                self._found(f"state machine safety: {self._node} applies {entry.index} after {self._applied}")
            if entry not in self._disk.entries:
                self._found(f"applied but not saved: {self._node} applies {entry.index}/{entry.term}")
            self._applied = entry.index
            if entry.commands and view.leads and view.term == entry.term:
                self._acknowledged = entry.index
        self._reads += ready.reads
        self._answered += [(read.token, self._applied) for read in self._reads if read.index <= self._applied]
        self._reads = tuple(read for read in self._reads if read.index > self._applied)
        if ready.fetch is not None:
            self._fetch = ready.fetch
        self._core.advance(ready)

    def _saved(self, disk: Disk, ready: Ready) -> Disk:
        after = disk.after(ready)
        was, now = disk.hard_state, after.hard_state
        if now.term < was.term:
            self._found(f"term monotonic: {self._node} goes back from term {was.term} to {now.term} on disk")
        if now.term == was.term and was.vote and now.vote != was.vote:
            self._found(f"one vote per term: {self._node} takes its vote from {was.vote} in term {now.term}")
        return after

    def _send(self, mail: tuple[Any, ...]) -> None:
        for message in mail:
            unbacked = self._kind.unbacked(message, self._disk)
            if unbacked:
                self._found(f"durable before mail: {unbacked}")
        self._mail += mail

    def _found(self, wrong: str) -> None:
        self._wrong = self._wrong or wrong

"""A whole Raft group in one process and in virtual time: seeded network, disks that finish late, crashes.

It is a small corridor: it carries out each Ready in the contract's order (early, save, messages, apply, advance) and
checks Figure 3, the order of what is applied, and every read, after each event. One seed, one history.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from twisted_kv.consensus.raft.invariants import Invariants
from twisted_kv.consensus.raft.messages import Append, AskPreVote, AskVote, Heartbeat, SnapshotOffer, TimeoutNow
from twisted_kv.consensus.raft.node import RaftNode, RaftSettings
from twisted_kv.consensus.types import (
    CopySeen,
    Entry,
    HardState,
    NotLeader,
    Position,
    Ready,
    Restored,
    Role,
    SnapshotFailed,
    SnapshotInstalled,
    SnapshotSource,
    Ticket,
)

TICK_MS = 50
START = Position()
REQUESTS = (Append, AskPreVote, AskVote, Heartbeat, SnapshotOffer, TimeoutNow)


@dataclass(frozen=True)
class Rows:
    """A checkpoint: all commands up to a position."""

    position: Position = START
    commands: tuple[bytes, ...] = ()


@dataclass
class Disk:
    """What survives a crash of one host."""

    hard_state: HardState = field(default_factory=HardState)
    boundary: Position = START
    entries: dict[int, Entry] = field(default_factory=dict)
    rows: Rows = field(default_factory=Rows)

    def save(self, ready: Ready) -> None:
        if ready.hard_state is not None:
            assert ready.hard_state.term >= self.hard_state.term, "a term went down"
            self.hard_state = ready.hard_state
        if ready.cut is not None:
            for index in [index for index in self.entries if index >= ready.cut]:
                del self.entries[index]
        self.entries.update((entry.index, entry) for entry in ready.entries)

    def trim(self, boundary: Position) -> None:
        for index in [index for index in self.entries if index <= boundary.index]:
            del self.entries[index]
        self.boundary = boundary

    def restored(self) -> Restored:
        """What a log store gives back, after the rule of opening: rows beyond the log replace it."""
        at = self.rows.position
        held = self.entries.get(at.index)
        if at.index > self.boundary.index and (held is None or held.term != at.term):
            self.entries.clear()
            self.boundary = at
        entries = tuple(self.entries[index] for index in sorted(self.entries))
        return Restored(self.hard_state, self.boundary, entries)


class Host:
    """One machine: a disk, and while it is up a core with what it has applied."""

    def __init__(self, node: int) -> None:
        self.node = node
        self.disk = Disk()
        self.core: RaftNode | None = None
        self.epoch = 0
        self.applied: list[bytes] = []
        self.at = Position()
        self.outstanding: Ready | None = None
        self.incoming: Rows | None = None
        self.reads: list[tuple[int, int]] = []
        self.waiting: dict[tuple[int, int], tuple[int, bytes]] = {}

    @property
    def up(self) -> bool:
        return self.core is not None

    @property
    def leads(self) -> bool:
        return self.core is not None and self.core.status().role is Role.LEADER


@dataclass
class Weather:
    """What the network and the disks do. Milliseconds, and shares between 0 and 1."""

    hop: tuple[int, int] = (1, 5)
    save: tuple[int, int] = (1, 5)
    loss: float = 0.0
    duplicate: float = 0.0
    fetch: tuple[int, int] = (5, 40)
    held_back: float = 0.0  # share of answers held back 200 ms … 2.2 s, overtaking each other


class World:
    """Hosts 1 … n under one weather.

    Args:
        log_entries_max: a checkpoint is taken, and the log cut, beyond this many entries; None: never by itself.
    """

    def __init__(
        self,
        seed: int,
        nodes: int = 3,
        weather: Weather | None = None,
        log_entries_max: int | None = None,
        settings: RaftSettings | None = None,
    ) -> None:
        self.random = Random(seed)
        self.weather = weather or Weather()
        self.settings = settings or RaftSettings()
        self.log_entries_max = log_entries_max
        self.voters = frozenset(range(1, nodes + 1))
        self.hosts = {node: Host(node) for node in self.voters}
        self.now = 0
        self.cuts: set[tuple[int, int]] = set()
        self.invariants = Invariants()
        self.order: list[bytes] = []
        self.acknowledged = 0
        self.read_floor: dict[int, int] = {}
        self.reads_answered = 0
        self.requests = 0
        self.sent_kinds: dict[str, int] = {}
        self.on_send: Callable[[Any], None] = lambda message: None
        self.on_applied: Callable[[Host], None] = lambda host: None
        self._events: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self._tokens = 0
        for host in self.hosts.values():
            self.start(host)

    # ── time ───────────────────────────────────────────────────────────────────────────────────────

    def after(self, delay: int, what: Callable[..., None], *args: Any) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + delay, self._count, what, args))

    def run(self, ms: int) -> None:
        """Let virtual time pass."""
        end = self.now + ms
        while self._events and self._events[0][0] <= end:
            self.now, _, what, args = heapq.heappop(self._events)
            what(*args)
        self.now = end

    def run_until(self, done: Callable[[], bool], ms: int = 5000, step: int = 10) -> bool:
        """Let time pass until done() or for at most ms; True if done."""
        end = self.now + ms
        while not done() and self.now < end:
            self.run(step)
        return done()

    # ── hosts ──────────────────────────────────────────────────────────────────────────────────────

    def start(self, host: Host) -> None:
        """Boot from disk."""
        assert host.core is None
        host.epoch += 1
        restored = host.disk.restored()
        rows = host.disk.rows
        host.applied, host.at = list(rows.commands), rows.position
        seed = Random(self.random.getrandbits(32))
        host.core = RaftNode(
            host.node, self.voters, restored, seed, applied=rows.position.index, settings=self.settings
        )
        self.after(1 + int(self.random.random() * TICK_MS), self._tick, host, host.epoch)
        self._wake(host)

    def crash(self, host: Host) -> None:
        """Lose everything not on disk; a save under way happened or not."""
        if host.outstanding is not None and self.random.random() < 0.5:
            host.disk.save(host.outstanding)
        host.core, host.outstanding, host.incoming = None, None, None
        host.reads.clear()
        host.waiting.clear()

    def wipe(self, node: int) -> Host:
        """Replace a host's disk by a blank one: it comes back as a copy."""
        old = self.hosts.pop(node)
        if old.up:
            self.crash(old)
        host = self.hosts[-node] = Host(-node)
        self.start(host)
        self._ask_as_copy(host)
        return host

    def _ask_as_copy(self, host: Host) -> None:
        for other in list(self.hosts.values()):
            if other.core is not None and self.linked(host.node, other.node):
                self.step(other, CopySeen(host.node))
        self.after(1000, self._ask_as_copy, host)

    @property
    def leader(self) -> Host | None:
        """The leader of the highest term, if any host leads."""
        led = [host for host in self.hosts.values() if host.leads]
        return max(led, key=lambda host: host.core.status().term, default=None)

    # ── network ────────────────────────────────────────────────────────────────────────────────────

    def linked(self, sender: int, to: int) -> bool:
        return (sender, to) not in self.cuts

    def isolate(self, *nodes: int) -> None:
        """Cut these hosts off from all others, and from each other."""
        for node in nodes:
            for other in self.hosts:
                self.cuts |= {(node, other), (other, node)}

    def heal(self, *nodes: int) -> None:
        """Restore the links of these hosts, or of all."""
        if nodes:
            self.cuts = {cut for cut in self.cuts if not set(cut) & set(nodes)}
        else:
            self.cuts = set()

    def _send(self, message: Any) -> None:
        weather, random = self.weather, self.random
        if isinstance(message, REQUESTS):
            self.requests += 1
        self.on_send(message)
        copies = 2 if weather.duplicate and random.random() < weather.duplicate else 1
        for _ in range(copies):
            if weather.loss and random.random() < weather.loss:
                continue
            delay = self._between(weather.hop)
            if weather.held_back and not isinstance(message, REQUESTS) and random.random() < weather.held_back:
                delay += 200 + int(random.random() * random.random() * 2000)
            self.after(delay, self._deliver, message)

    def _deliver(self, message: Any) -> None:
        host = self.hosts.get(message.to)
        if host is not None and host.core is not None and self.linked(message.sender, message.to):
            self.step(host, message)

    def _between(self, span: tuple[int, int]) -> int:
        low, high = span
        return low + int(self.random.random() * (high - low + 1))

    # ── the corridor ───────────────────────────────────────────────────────────────────────────────

    def step(self, host: Host, message: Any) -> None:
        assert host.core is not None
        host.core.step(message)
        self._wake(host)

    def propose(self, host: Host, command: bytes) -> Ticket | None:
        """Give a command to this host; None unless it leads."""
        if host.core is None:
            return None
        try:
            ticket = host.core.propose(command)
        except NotLeader:
            return None
        host.waiting[ticket.index, ticket.position] = ticket.term, command
        self._wake(host)
        return ticket

    def read(self, host: Host) -> bool:
        """Begin a read; when answered it must show every write acknowledged before now."""
        if host.core is None:
            return False
        self._tokens += 1
        try:
            host.core.read(self._tokens)
        except NotLeader:
            return False
        self.read_floor[self._tokens] = self.acknowledged
        self._wake(host)
        return True

    def checkpoint(self, host: Host) -> None:
        """Write rows at what is applied, then cut the log there."""
        assert host.core is not None
        rows = Rows(host.at, tuple(host.applied))
        self.after(self._between(self.weather.save), self._checkpointed, host, host.epoch, rows)

    def _checkpointed(self, host: Host, epoch: int, rows: Rows) -> None:
        if host.epoch != epoch or host.core is None or rows.position.index <= host.disk.boundary.index:
            return
        host.disk.rows = rows
        host.disk.trim(rows.position)
        host.core.compact(rows.position.index)
        self.invariants.observe([host.core])

    def _tick(self, host: Host, epoch: int) -> None:
        if host.core is not None and host.epoch == epoch:
            self.after(TICK_MS, self._tick, host, epoch)
            host.core.tick()
            self._wake(host)

    def _wake(self, host: Host) -> None:
        assert host.core is not None
        while host.core is not None and host.outstanding is None:
            if host.incoming is not None:
                self._install(host)
                continue
            ready = host.core.ready()
            if ready is None:
                break
            for message in ready.early:
                self._send(message)
            host.outstanding = ready
            if ready.must_save:
                self.after(self._between(self.weather.save), self._saved, host, host.epoch)
            else:
                self._carry_out(host)
        if host.core is not None:
            self.invariants.observe([host.core])

    def _saved(self, host: Host, epoch: int) -> None:
        if host.core is not None and host.epoch == epoch:
            assert host.outstanding is not None
            host.disk.save(host.outstanding)
            self._carry_out(host)
            self._wake(host)

    def _carry_out(self, host: Host) -> None:
        ready, core = host.outstanding, host.core
        assert ready is not None and core is not None
        host.outstanding = None
        for message in ready.messages:
            self._send(message)
        for entry in ready.committed:
            self._apply(host, entry)
        host.reads += [(read.token, read.index) for read in ready.reads]
        self._answer_reads(host)
        core.advance(ready)
        if ready.standing is not None and ready.standing.role is not Role.LEADER:
            host.waiting.clear()
        if ready.fetch is not None:
            self.after(self._between(self.weather.fetch), self._fetched, host, host.epoch, ready.fetch)
        if ready.committed:
            self.on_applied(host)
            most = self.log_entries_max
            if most is not None and host.at.index - host.disk.boundary.index > most:
                self.checkpoint(host)

    def _apply(self, host: Host, entry: Entry) -> None:
        assert entry.index == host.at.index + 1, "applied out of order"
        held = host.disk.entries.get(entry.index)
        assert held == entry, "applied what is not in this host's own log file"
        for position, command in enumerate(entry.commands):
            place = len(host.applied)
            host.applied.append(command)
            if place == len(self.order):
                self.order.append(command)
            assert self.order[place] == command, f"host {host.node} applies {command!r} at {place}"
            term, proposed = host.waiting.pop((entry.index, position), (0, b""))
            if term == entry.term:
                assert proposed == command, "the ticket named another command"
                self.acknowledged = max(self.acknowledged, len(host.applied))
        host.at = Position(entry.index, entry.term)

    def _answer_reads(self, host: Host) -> None:
        for token, index in host.reads:
            if index <= host.at.index:
                self.reads_answered += 1
                assert len(host.applied) >= self.read_floor[token], "a stale read"
        host.reads = [(token, index) for token, index in host.reads if index > host.at.index]

    def _fetched(self, host: Host, epoch: int, source: SnapshotSource) -> None:
        if host.core is None or host.epoch != epoch:
            return
        peer = self.hosts.get(source.peer)
        reached = peer is not None and peer.up and self.linked(host.node, source.peer)
        lost = self.random.random() < self.weather.loss
        if peer is None or not reached or lost or peer.disk.rows.position.index < source.index:
            self.step(host, SnapshotFailed())
        else:
            host.incoming = peer.disk.rows
            self._wake(host)

    def _install(self, host: Host) -> None:
        rows, host.incoming = host.incoming, None
        assert rows is not None and host.core is not None
        if rows.position.index <= host.at.index:
            host.core.step(SnapshotFailed())
            return
        # Data first, then the log; a crash between the two is mended by Disk.restored.
        host.disk.rows = rows
        if self.random.random() < self.crash_in_install:
            self.crash(host)
            return
        host.disk.entries.clear()
        host.disk.boundary = rows.position
        host.applied, host.at = list(rows.commands), rows.position
        assert self.order[: len(host.applied)] == host.applied, "rows of another history"
        host.core.step(SnapshotInstalled(rows.position.index, rows.position.term))
        self.on_applied(host)

    crash_in_install = 0.0

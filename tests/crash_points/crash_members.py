"""The workloads in which a whole Member does the saving: door, corridor, core, machine, checkpoints, production disk.

The order of saves and answers is the replica's own. A group or a controller of one member is asked through its doors
and by commands; a follower of three is told by a leader that is played here, and what it tells that leader is an
acknowledgment. Commands leave one after the other or several in one turn, so that the state found after a crash is
that after some number of them: no fewer than were answered, no more than were asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from crash_belief import entry_facts
from crash_boot import GID, Nobody, Seat
from crash_recording import Recorder
from crash_stage import PATIENCE_SECONDS, SHARDS, TICK_SECONDS, Stage
from crash_workloads import GaveUp, Workload, filling, keys
from twisted.internet.defer import Deferred, succeed

from twisted_kv.consensus.raft.messages import (
    MESSAGES,
    Append,
    AppendAck,
    AskVote,
    Heartbeat,
    SnapshotOffer,
    VoteAnswer,
)
from twisted_kv.consensus.types import Entry
from twisted_kv.machines.commands import (
    CONTROLLER_COMMANDS,
    GROUP_COMMANDS,
    Administer,
    Change,
    Claim,
    Configure,
    Drop,
    Enroll,
    Found,
    Freeze,
    Install,
    Join,
    Leave,
    Move,
    Open,
    Operation,
    Readdress,
    Write,
)
from twisted_kv.machines.configuration import Configuration, empty_configuration, shard_of, successor
from twisted_kv.machines.configuration import Member as Listed
from twisted_kv.machines.controller import ControllerMachine
from twisted_kv.machines.group import GroupMachine
from twisted_kv.machines.rows import Cursor, Row
from twisted_kv.transport.wire import (
    CTL_CHANGE,
    CTL_CLAIM,
    CTL_ENROLL,
    HELLO,
    KV_OPEN,
    KV_WRITE,
    PEER_HELLO,
    PEER_ROWS,
    PEER_STEP,
    ROWS_ANSWER,
    ROWS_REQUEST,
    SHARD_DROP,
    STEP,
    Hello,
    RowsAnswer,
    Step,
)

_LOG_BYTES_MAX: Final = 3_000


# ── a group of one ──────────────────────────────────────────────────────────────────────────────────


def _all_mine(num: int = 1) -> Configuration:
    return successor(empty_configuration(SHARDS), (Listed(GID, num, ("e1",)),), (GID,) * SHARDS)


class Client:
    """Sessions in some shards, and operations numbered."""

    def __init__(self, stage: Stage, shards: Sequence[int] = range(SHARDS)) -> None:
        self._stage = stage
        self._count = 0
        (answer,) = stage.ask(KV_OPEN, Open(tuple(shards), bytes(16)))
        self._numbers = {shard: outcome.value for shard, outcome in zip(shards, answer.outcomes, strict=True)}

    def operation(self, verb: Any, key: str, value: Any = None) -> Operation:
        self._count += 1
        session = self._numbers[shard_of(key, SHARDS)]
        return Operation(verb, key, value, session, self._count, max(1, self._count - 5))

    def write(self, *operations: Operation) -> None:
        """One request."""
        self._stage.ask(KV_WRITE, Write(operations))

    def write_each(self, *operations: Operation) -> None:
        """A request each, all in one turn."""
        self._stage.ask(KV_WRITE, *(Write((operation,)) for operation in operations))


def group_puts(stage: Stage) -> None:
    stage.submit(Configure("C", _all_mine(), True))
    client = Client(stage)
    make = client.operation
    client.write(make("p", "a", "1"), make("p", "b", b"\0\1"), make("a", "a", "2"))
    repeated = make("a", "a", "3")
    client.write(repeated)
    client.write(repeated)
    client.write_each(*(make("p", f"k{number}", f"v{number}") for number in range(6)))
    client.write(make("h", "a", "x"), make("d", "b"))
    client.write_each(make("d", "k1"), make("a", "k2", "more"), make("h", "k3", "y"))


def group_checkpoints(stage: Stage) -> None:
    stage.submit(Configure("C", _all_mine(), True))
    client = Client(stage)
    for number in range(14):
        value = filling(f"{number}", 700).decode()
        client.write_each(*(client.operation("p", f"k{(number + place) % 9}", value) for place in range(2)))


def group_migration(stage: Stage) -> None:
    """Shards are gained in chunks, frozen, dropped, parked and come back."""
    mine, other = Listed(GID, 1, ("e1",)), Listed(8, 1, ("f1",))
    first = successor(empty_configuration(SHARDS), (mine, other), (GID, GID, 8, 8))
    second = successor(first, (mine, other), (GID, 8, GID, 8))
    third = successor(second, (mine, other), (8, 8, GID, GID))
    stage.submit(Configure("C", first, True))
    client = Client(stage, (0, 1))
    client.write(*(client.operation("p", key, "v") for key in _keys_of((0, 1), 12)))
    stage.submit(Configure("C", second, True))
    chunk = [tuple(Row(0, 0, "key", key, "theirs") for key in _keys_of((2,), 9)[at : at + 3]) for at in (0, 3, 6)]
    for number, rows in enumerate(chunk):
        cursor = Cursor(("key", rows[-1].name), number == 2, 0)
        stage.submit(Install(2, 2, number, rows, cursor, number == 2, number == 2, 100))
    stage.submit(Freeze(1, 1))
    stage.ask(SHARD_DROP, Drop(1, 1))
    client.write(client.operation("p", _keys_of((0,), 1)[0], "still here"))
    stage.submit(Configure("C", third, True))
    stage.ask(SHARD_DROP, Drop(0, 1))
    stage.submit(Freeze(0, 1))
    stage.ask(SHARD_DROP, Drop(0, 1))


def _keys_of(shards: Sequence[int], count: int) -> list[str]:
    found = (f"k{number}" for number in range(10_000))
    fitting = (key for key in found if shard_of(key, SHARDS) in shards)
    return sorted(next(fitting) for _ in range(count))


# ── a controller of one ─────────────────────────────────────────────────────────────────────────────


def controller(stage: Stage) -> None:
    def ask(verb: str, *commands: Any) -> list[Any]:
        return stage.ask(verb, *commands, codec=CONTROLLER_COMMANDS)

    stage.submit(Found("c" * 32, SHARDS, 1 << 20), codec=CONTROLLER_COMMANDS)
    (enrolled,) = ask(CTL_ENROLL, Enroll(bytes(16)))
    session = enrolled.outcomes[0].value
    changes: list[Change] = [
        Join(((1, ("a",)), (2, ("b",)))),
        Move(0, 2),
        Join(((3, ("c1", "c2")),)),
        Leave((1,)),
        Readdress(2, ("b2",)),
        Leave((2, 3)),
        Join(((4, ("d",)),)),
    ]
    made = [Administer(session, number, number, change) for number, change in enumerate(changes, 1)]
    ask(CTL_CHANGE, made[0])
    ask(CTL_CLAIM, Claim(1, 1, "g" * 32))
    ask(CTL_CHANGE, made[1], made[2])
    ask(CTL_CHANGE, made[2])  # once more
    for administer in made[3:]:
        ask(CTL_CHANGE, administer)
    ask(CTL_CLAIM, Claim(4, 7, "h" * 32))


# ── a follower of three ─────────────────────────────────────────────────────────────────────────────


class Leader(Nobody):
    """Nodes 2 and 3, played: they form a group with the member, ask for its vote and lead it; it answers them.

    What leaves the member is an acknowledgment, marked as it leaves.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._entries: dict[int, Entry] = {}
        self._voters: tuple[tuple[int, str], ...] = ()
        self._me = ""
        self.rows: Sequence[Row] = ()
        self.position = (0, 0)
        self.heard: list[Any] = []

    def call(self, endpoint: str, verb: str, body: bytes, timeout: float) -> Deferred[bytes]:
        """Formation, and rows in two chunks."""
        if verb == PEER_HELLO:
            hello = HELLO.decode(body)
            node = int(endpoint[1:])
            self._me = hello.incarnation
            self._voters = ((1, hello.incarnation), (2, "b" * 32), (3, "c" * 32))
            answer = Hello("group", GID, node, self._voters[node - 1][1], "raft", self._voters, hello.formed)
            return succeed(HELLO.encode(answer))
        assert verb == PEER_ROWS
        after = ROWS_REQUEST.decode(body).after
        left = [row for row in self.rows if after is None or row.key > after]
        half = left[: len(self.rows) // 2 + 1]
        return succeed(ROWS_ANSWER.encode(RowsAnswer(1, *self.position, tuple(half), not left)))

    def send(self, endpoint: str, verb: str, body: bytes) -> None:
        """What the member tells its leader, and so must not forget."""
        for message in MESSAGES.decode(STEP.decode(body).body):
            self.heard.append(message)
            if isinstance(message, VoteAnswer) and message.granted:
                self._recorder.mark("voted", message.term, message.to)
            elif isinstance(message, AppendAck):
                held = [entry for index, entry in sorted(self._entries.items()) if index <= message.index]
                self._recorder.mark("acked", [entry_facts(entry) for entry in held])

    def step(self, stage: Stage, message: Any) -> Any:
        """Send one message; what the member answers to it."""
        sender = message.sender
        self.heard.clear()
        incarnation = dict(self._voters)[sender]
        step = Step(GID, sender, incarnation, 1, MESSAGES.encode((message,)))
        stage.member.doors[PEER_STEP](STEP.encode(step))
        stage.until(lambda: bool(self.heard))
        return self.heard[-1]

    def vote(self, stage: Stage, sender: int, term: int) -> None:
        """Ask for a vote, as one whose log is long enough; the member has not heard of a leader for long."""
        self._retry(stage, AskVote(sender, 1, term, 1_000, term, True), VoteAnswer)

    def append(self, stage: Stage, sender: int, term: int, prev: tuple[int, int], *entries: Entry, commit: int) -> None:
        """AppendEntries, again and again until acknowledged."""
        for entry in entries:
            known = self._entries.get(entry.index)
            if known is not None and known.term != entry.term:
                self._recorder.mark("overwritten", entry.index)
                self._entries = {index: kept for index, kept in self._entries.items() if index < entry.index}
            self._entries[entry.index] = entry
        self._retry(stage, Append(sender, 1, term, *prev, commit, entries), AppendAck)

    def install(self, stage: Stage, sender: int, term: int, position: tuple[int, int], rows: Sequence[Row]) -> None:
        """Offer a snapshot at a position; the member fetches it."""
        self.position, self.rows = position, sorted(rows, key=lambda row: row.key)
        self._recorder.mark("overwritten", 0)
        self._entries.clear()
        self._retry(stage, SnapshotOffer(sender, 1, term, *position), AppendAck)

    def _retry(self, stage: Stage, message: Any, answer: type) -> None:
        waited = 0
        while not isinstance(self.step(stage, message), answer):
            stage.clock.advance(TICK_SECONDS)
            waited += 1
            if waited > PATIENCE_SECONDS / TICK_SECONDS:
                raise GaveUp


def _batch(first: int, count: int, term: int) -> tuple[Entry, ...]:
    mine = GROUP_COMMANDS.encode(Configure("C", _all_mine(), True))
    return tuple(Entry(index, term, (mine,) if index % 2 else ()) for index in range(first, first + count))


def follower(stage: Stage, leader: Leader) -> None:
    """Votes, appends, cuts at a conflict, a checkpoint on the way; each answer is a promise."""
    leader.vote(stage, 2, 1)
    leader.append(stage, 2, 1, (0, 0), *_batch(1, 3, 1), commit=0)
    leader.append(stage, 2, 1, (3, 1), *_batch(4, 5, 1), commit=3)
    leader.vote(stage, 3, 2)
    leader.append(stage, 3, 2, (5, 1), *_batch(6, 2, 2), commit=5)
    leader.append(stage, 3, 4, (7, 2), *_batch(8, 4, 4), commit=7)
    leader.append(stage, 2, 5, (9, 4), *_batch(10, 3, 5), commit=12)
    leader.append(stage, 2, 5, (12, 5), *_batch(13, 6, 5), commit=18)
    leader.step(stage, Heartbeat(2, 1, 5, 18, 1))
    leader.vote(stage, 3, 6)


def follower_installs(stage: Stage, leader: Leader) -> None:
    """Twice so far behind that rows come instead of entries, and entries behind them."""
    machine = GroupMachine(GID)
    machine.apply(1, GROUP_COMMANDS.encode(Configure("C", _all_mine(), True)))
    rows = [
        Row(shard, num, space, name, value) for (shard, num, space, name), value in machine.take_changes().rows.items()
    ]
    leader.append(stage, 2, 1, (0, 0), *_batch(1, 3, 1), commit=2)
    leader.install(stage, 2, 2, (20, 2), rows)
    leader.append(stage, 2, 2, (20, 2), *_batch(21, 3, 2), commit=21)
    leader.install(stage, 3, 4, (40, 3), [*rows, *(row for row in keys(0, 20, "x", shard=0))])
    leader.append(stage, 3, 4, (40, 3), *_batch(41, 2, 4), commit=41)
    leader.vote(stage, 2, 5)


def _alone(script: Callable[[Stage], None], kind: str, log_bytes_max: int = -1) -> Callable[[Recorder, str], None]:
    def life(recorder: Recorder, path: str) -> None:
        stage = Stage(recorder, path, kind, log_bytes_max)
        script(stage)
        stage.close()

    return life


def _led(script: Callable[[Stage, Leader], None], log_bytes_max: int = -1) -> Callable[[Recorder, str], None]:
    def life(recorder: Recorder, path: str) -> None:
        leader = Leader(recorder)
        stage = Stage(recorder, path, "group", log_bytes_max, leader, size=3)
        stage.until(lambda: stage.member.replica is not None)
        script(stage, leader)
        stage.close()

    return life


def _group() -> GroupMachine:
    return GroupMachine(GID)


_ALONE: Final = Seat("group")
_ONE_OF_THREE: Final = Seat("group", 3)

MEMBERS: Final = (
    Workload("group-puts", [_alone(group_puts, "group")], _group, _ALONE),
    Workload("group-checkpoints", [_alone(group_checkpoints, "group", _LOG_BYTES_MAX)], _group, _ALONE),
    Workload("group-migration", [_alone(group_migration, "group", _LOG_BYTES_MAX)], _group, _ALONE),
    Workload("controller", [_alone(controller, "controller", 1_000)], ControllerMachine, Seat("controller")),
    Workload("follower", [_led(follower, 800)], seat=_ONE_OF_THREE),
    Workload("follower-installs", [_led(follower_installs)], seat=_ONE_OF_THREE),
)

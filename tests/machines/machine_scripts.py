"""Scripted configurations, and a group with its log and its checkpoint: what the tests of the group machine share."""

from __future__ import annotations

from typing import Any

from twisted_kv.machines.commands import (
    GROUP_COMMANDS,
    AskDrop,
    Configure,
    Done,
    Drop,
    Dropped,
    Freeze,
    GroupCommand,
    HandOver,
    Install,
    NextConfiguration,
    Open,
    Operation,
    Outcome,
    Pull,
    PullAnswer,
    PullRows,
    Read,
    Write,
)
from twisted_kv.machines.configuration import Configuration, Holder, Member, empty_configuration, shard_of
from twisted_kv.machines.group import GroupMachine
from twisted_kv.machines.rows import BEGINNING, Cursor, Row
from twisted_kv.machines.shard import Shard

CLUSTER = "cluster-a"
VALUE_BYTES_MAX = 1000


class History:
    """Configurations as a controller would make them; ``holders`` and ``sources`` follow from the assignment."""

    def __init__(self, shards: int) -> None:
        self.configurations = [empty_configuration(shards, 1000)]

    @property
    def newest(self) -> Configuration:
        return self.configurations[-1]

    def assign(self, *gids: int, members: tuple[int, ...] | None = None) -> Configuration:
        """Give shard i to gids[i]; ``members`` are listed (default: who owns something)."""
        before, num = self.newest, self.newest.num + 1
        listed = {member.gid: member for member in before.members}
        wanted = sorted(set(gids) - {0}) if members is None else sorted(members)
        present = tuple(listed.get(gid, Member(gid, num, (f"ep:{gid}:{num}",))) for gid in wanted)
        joined = {member.gid: member.joined for member in present}
        holders, sources = [], []
        for gid, holder, source in zip(gids, before.holders, before.sources, strict=True):
            stays = gid == 0 or (holder is not None and (holder.gid, holder.joined) == (gid, joined[gid]))
            holders.append(holder if stays else Holder(gid, joined[gid], num))
            sources.append(source if stays else holder)
        named = {(holder.gid, holder.joined) for holder in holders + sources if holder is not None}
        left = [member for member in before.members + before.former if member not in present]
        former = tuple(member for member in left if (member.gid, member.joined) in named)
        following = Configuration(num, tuple(gids), present, tuple(holders), tuple(sources), former, 1000)
        self.configurations.append(following)
        return following


class Group:
    """A GroupMachine, the log it applied, and the rows of its last checkpoint."""

    def __init__(self, gid: int) -> None:
        self.gid = gid
        self.machine = GroupMachine(gid)
        self.log: list[GroupCommand] = []
        self.stored: dict[tuple[int, int, str, str], Any] = {}
        self._covered = 0

    def apply(self, command: GroupCommand) -> Any:
        self.log.append(command)
        return self.machine.apply(len(self.log), GROUP_COMMANDS.encode(command))

    def configure(self, configuration: Configuration, mine: bool = True, cluster: str = CLUSTER) -> Outcome:
        return self.apply(Configure(cluster, configuration, mine))

    def write(self, *operations: Operation) -> tuple[Outcome, ...]:
        return self.apply(Write(operations))

    def open(self, shard: int, nonce: bytes = b"n" * 16) -> Outcome:
        return self.apply(Open((shard,), nonce))[0]

    def get(self, key: str) -> Outcome:
        return self.machine.query(Read((key,)))[0]

    def phases(self) -> dict[tuple[int, int], str]:
        """(shard, num) → phase of every copy held."""
        return {(line["shard"], line["num"]): line["phase"] for line in self.machine.shards_status()}

    def checkpoint(self) -> set[tuple[int, int, str, str]]:
        """Write what changed, as a store would; the keys of the rows written."""
        changes = self.machine.take_changes()
        for shard, num in changes.dropped:
            self.stored = {key: value for key, value in self.stored.items() if key[:2] != (shard, num)}
        for key, value in changes.rows.items():
            if value is None:
                self.stored.pop(key, None)
            else:
                self.stored[key] = value
        self._covered = len(self.log)
        return set(changes.rows)

    def restart(self) -> None:
        """Read the rows of the last checkpoint, replay the tail of the log."""
        before = self.machine
        self.machine = GroupMachine(self.gid)
        self.machine.load(Row(*key, value) for key, value in sorted(self.stored.items()))
        for index, command in enumerate(self.log[self._covered :], self._covered + 1):
            self.machine.apply(index, GROUP_COMMANDS.encode(command))
        assert self.machine.digest() == before.digest()
        assert self.machine.chores() == before.chores()
        assert self.machine.status() == before.status()
        assert self.machine.shards_status() == before.shards_status()

    def ask(
        self, shard: int, num: int, cursor: Cursor = BEGINNING, bytes_max: int = 100, hand: bool = False
    ) -> PullAnswer:
        """What a giver says, in the end: sorted, and frozen if it asks for that."""
        query = PullRows(shard, num, cursor, bytes_max, hand)
        while (answer := self.machine.query(query)).state in ("sorting", "handing"):
            if answer.state == "handing":
                self.apply(Freeze(shard, num))
        return answer


def installing(answer: PullAnswer, shard: int, num: int, chunk: int = 0) -> Install:
    """The command by which an answer enters a taker's log."""
    return Install(shard, num, chunk, answer.rows, answer.cursor, answer.level, answer.last, answer.total_bytes)


def carry_out(groups: dict[int, Group], group: Group, chore: Any, history: History) -> list[GroupCommand]:
    """One chore, as a reconciler with a perfect network would; what it logged in ``group``."""
    command: GroupCommand | None = None
    if isinstance(chore, NextConfiguration) and chore.num <= history.newest.num:
        command = Configure(CLUSTER, history.configurations[chore.num], True)
    elif isinstance(chore, Pull):
        giver = groups[chore.source.gid]
        answer = giver.ask(chore.shard, chore.source.num, chore.cursor, hand=chore.hand)
        if answer.state in ("rows", "ahead"):
            command = installing(answer, chore.shard, chore.num, chore.chunk)
    elif isinstance(chore, HandOver):
        command = Freeze(chore.shard, chore.num)
    elif isinstance(chore, AskDrop) and groups[chore.source.gid].apply(Drop(chore.shard, chore.num)) == Done(True):
        command = Dropped(chore.shard, chore.num)
    if command is None:
        return []
    group.apply(command)
    return [command]


def settle(groups: dict[int, Group], history: History, rounds: int = 200) -> None:
    """Carry out chores until all groups are at the newest configuration and nothing is in motion."""
    for _ in range(rounds):
        done = all(group.machine.chores() == (NextConfiguration(history.newest.num + 1),) for group in groups.values())
        if done:
            return
        for group in groups.values():
            for chore in group.machine.chores():
                carry_out(groups, group, chore, history)
    raise AssertionError({gid: group.machine.chores() for gid, group in groups.items()})


def key_in(shard: int, shards: int, nth: int = 0) -> str:
    """A key of this shard; another one per ``nth``."""
    found = -1
    for number in range(10_000):
        if shard_of(f"k{number}", shards) == shard:
            found += 1
            if found == nth:
                return f"k{number}"
    raise AssertionError("no such key")


def put(key: str, value: Any, sequence: int, floor: int = 1, session: int = 1) -> Operation:
    return Operation("p", key, value, session, sequence, floor)


def append(key: str, value: Any, sequence: int, floor: int = 1, session: int = 1) -> Operation:
    return Operation("a", key, value, session, sequence, floor)


def opened() -> Shard:
    """A copy with a session."""
    shard = Shard()
    assert shard.sessions.open(b"n" * 16) == 1
    return shard


def filled(count: int) -> Shard:
    """A copy with so many keys, and one more, and with answers of any kind."""
    shard = opened()
    for number in range(1, count + 1):
        shard.execute(Operation("p", f"é{number * 7 % count}", "v" * number, 1, number, number), VALUE_BYTES_MAX)
    shard.execute(Operation("p", "bytes", b"\xff\x00", 1, count + 1, 1), VALUE_BYTES_MAX)
    shard.execute(Operation("h", "bytes", "x", 1, count + 2, 1), VALUE_BYTES_MAX)
    return shard

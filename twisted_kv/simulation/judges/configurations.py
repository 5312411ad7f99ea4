"""The history of configurations, judged where the controllers make it and where administrators are told of it.

It decides what may follow what: numbers without a gap, at most one to a change and none without one; shards spread
evenly with as few moves as can be when groups come and go; one that moves and no other when one is moved; what a
number holds and who first claimed a member stay for ever, on all controllers and over all their boots. And of
administrators: a change that was told as done was carried out once, one told as refused never, and the newest
configuration is no older than what anybody was told of before it was asked for.

Source: scenarios 35-45, hazards 22, 37, 40 and 45. The shares of groups are counted here once more, not taken from the
rebalancing that is judged. It knows neither networks nor Clerks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from twisted_kv.machines.commands import (
    CONTROLLER_COMMANDS,
    Administer,
    Change,
    Claim,
    ConfigurationAnswer,
    Configured,
    Done,
    Join,
    Leave,
    Move,
    QueryConfiguration,
    Readdress,
)
from twisted_kv.machines.configuration import Configuration
from twisted_kv.simulation.judges.checkers import CHANGED_ONCE, CONFIGURATIONS, FIRST_CLAIM, NEWEST

Ids = tuple[int, int]
"""Session and sequence of a change: its name over all its attempts."""


class Chronicle:
    """What the controllers have made so far, and what was said of it.

    Args:
        found: is given each finding: the name of the checker, and what does not hold.

    Attributes:
        heard: the highest number that anybody was told of.
    """

    def __init__(self, found: Callable[[str, str], None]) -> None:
        self.heard = 0
        self._found = found
        self._known: list[Configuration] = []
        self._latest = (0, 0)
        self._claims: dict[tuple[int, int], Any] = {}
        self._answers: dict[Ids, int] = {}
        self._refused: dict[Ids, str] = {}

    # ── what controllers do ────────────────────────────────────────────────────────────────────────

    def applied(self, place: tuple[int, int], command: bytes, reply: Any, machine: Any, name: str) -> None:
        """A controller's machine stands behind this command."""
        answer = machine.query(QueryConfiguration(-1))
        if not answer.cluster:
            return
        value = CONTROLLER_COMMANDS.decode(command)
        if place > self._latest:
            self._latest = place
            self._carried_out(value, reply, answer.configuration, machine)
        if isinstance(value, Claim) and isinstance(reply, Done):
            first = self._claims.setdefault((value.gid, value.joined), reply.value)
            if first != reply.value:
                self._found(
                    FIRST_CLAIM, f"group {value.gid} of {value.joined} was {first}'s, is {reply.value}'s ({name})"
                )
        self._compare(answer, name)

    def compare(self, machine: Any, name: str) -> None:
        """All that a controller holds under any number is what was first seen there."""
        for num in range(len(self._known)):
            self._compare(machine.query(QueryConfiguration(num)), name)

    def _compare(self, answer: ConfigurationAnswer, name: str) -> None:
        configuration = answer.configuration
        if not self.is_known(configuration):
            self._found(CONFIGURATIONS, f"{name} holds another configuration {configuration.num} than was made")

    def is_known(self, configuration: Configuration) -> bool:
        """Whether the controllers have made it just so."""
        num = configuration.num
        return num < len(self._known) and self._known[num] == configuration

    def _carried_out(self, value: Any, reply: Any, newest: Configuration, machine: Any) -> None:
        """The first controller has applied a command."""
        if not self._known:
            self._known.append(newest)
        before = self._known[-1]
        made = newest.num - before.num
        if isinstance(value, Administer):
            self._administered(value, reply, before, newest)
        elif made:
            self._found(CONFIGURATIONS, f"{type(value).__name__} makes configuration {newest.num}")
        for num in range(len(self._known), newest.num + 1):
            self._known.append(machine.query(QueryConfiguration(num)).configuration)

    def _administered(self, value: Administer, reply: Any, before: Configuration, newest: Configuration) -> None:
        ids, made = (value.session, value.sequence), newest.num != before.num
        if made and ids in self._refused:
            self._found(CHANGED_ONCE, f"{self._refused[ids]} was told that {value.change} was not made; it is {newest}")
        if ids in self._answers:
            if made:
                self._found(CONFIGURATIONS, f"{value.change} was asked for again and made configuration {newest.num}")
        elif isinstance(reply, Configured):
            wrong = fault_of(value.change, before, newest)
            if wrong:
                self._found(
                    CONFIGURATIONS,
                    f"{value.change}: {wrong}: configuration {before.num} {before.shards} became "
                    f"{newest.num} {newest.shards}",
                )
        elif made:
            self._found(CONFIGURATIONS, f"{value.change} was answered by {reply} and made configuration {newest.num}")
        if isinstance(reply, Configured):
            num = self._answers.setdefault(ids, reply.configuration.num)
            if num != reply.configuration.num:
                self._found(CONFIGURATIONS, f"{value.change} made configuration {num}, then {reply.configuration.num}")

    # ── what administrators are told ───────────────────────────────────────────────────────────────

    def told_newest(self, heard: int, configuration: Configuration, name: str) -> None:
        """An administrator was given the newest configuration.

        Args:
            heard: as it stood when the administrator asked.
        """
        if configuration.num < heard:
            self._found(NEWEST, f"{name} was given configuration {configuration.num}; {heard} was told of before")
        self._told(configuration, name)

    def told_numbered(self, num: int, heard: int, configuration: Configuration, name: str) -> None:
        """An administrator was given the configuration of a number.

        Args:
            num: from 0; one beyond the newest asks for the newest.
            heard: as it stood when the administrator asked.
        """
        if configuration.num != num and (configuration.num > num or num <= heard):
            self._found(CONFIGURATIONS, f"{name} asked for configuration {num} and was given {configuration.num}")
        self._told(configuration, name)

    def told_done(self, ids: Collection[Ids], configuration: Configuration, name: str) -> None:
        """An administrator was told that its change, asked for under these ids, is done."""
        answers = [self._answers[known] for known in ids if known in self._answers]
        if answers != [configuration.num]:
            self._found(
                CHANGED_ONCE, f"{name} was told of {configuration.num} as done; what it asked for made {answers}"
            )
        self._told(configuration, name)

    def told_refused(self, ids: Collection[Ids], name: str) -> None:
        """An administrator was told that its change was not made and will not be."""
        self._refused.update(dict.fromkeys(ids, name))
        made = [self._answers[known] for known in ids if known in self._answers]
        if made:
            self._found(CHANGED_ONCE, f"{name} was told that a change was not made, which was answered by {made}")

    def _told(self, configuration: Configuration, name: str) -> None:
        self.heard = max(self.heard, configuration.num)
        if not self.is_known(configuration):
            self._found(CONFIGURATIONS, f"{name} was given another configuration {configuration.num} than was made")


def fault_of(change: Change, before: Configuration, after: Configuration) -> str:
    """What is wrong with the configuration that this change made of the one before, which is the same one if there
    was nothing to change; "" if nothing is."""
    made = after.num - before.num
    gids = set(before.groups)
    owners = before.shards
    match change:
        case Join(groups=groups):
            gids |= {gid for gid, _ in groups}
        case Leave(gids=leaving):
            gids -= set(leaving)
        case Move(shard=shard, gid=gid):
            owners = (*owners[:shard], gid, *owners[shard + 1 :])
        case Readdress(gid=gid, endpoints=endpoints):
            known = [member for member in before.members + before.former[::-1] if member.gid == gid]
            if made != (known[0].endpoints != endpoints):
                return f"{made} configurations for one change of endpoints"
    if gids != set(after.groups):
        return f"there are groups {sorted(after.groups)}, not {sorted(gids)}"
    regrouped = gids != set(before.groups)
    if not isinstance(change, Readdress) and made != (regrouped or owners != before.shards):
        return f"{made} configurations for {'one' if regrouped or owners != before.shards else 'no'} change"
    if not regrouped:
        return "" if after.shards == owners else "other shards moved"
    shares = shares_of(before.shards, gids)
    if {gid: after.shards.count(gid) for gid in gids} != shares:
        return f"the shares are not {shares}"
    kept = sum(old == new for old, new in zip(before.shards, after.shards, strict=True))
    kept_most = sum(min(before.shards.count(gid), share) for gid, share in shares.items())
    return "more shards moved than had to" if gids and kept < kept_most else ""


def shares_of(shards: Sequence[int], gids: Collection[int]) -> Mapping[int, int]:
    """gid → how many shards it must have: even to within one, and the larger shares where most is already, then in the
    order of gids; so the fewest move, and all controllers agree.

    >>> shares_of((1, 1, 2, 2, 3), {1, 2})
    {1: 3, 2: 2}
    """
    order = sorted(gids, key=lambda gid: (-shards.count(gid), gid))
    return {gid: (len(shards) + len(order) - 1 - place) // len(order) for place, gid in enumerate(order)}

"""A configuration: which group owns which shard, who held it before, and where a key belongs.

Decided by the controller, followed by groups and Clerks. Immutable; history is never rewritten. Beside what
users see (num, shards, groups) it carries, per shard, who holds the data and from whom a gainer pulls it, so
that a joiner finds parked data and a group that was away for long needs nothing but this value.

Source: scenarios M1–M7; the copy identity (shard, num) is our own (docs/decisions). Knows nothing of balance
(rebalance) nor of phases (migration).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType

import msgspec

from twisted_kv.constants import SHARDS_DEFAULT, VALUE_BYTES_DEFAULT

NO_GROUP = 0
"""The gid of a shard that nobody serves."""


class Member(msgspec.Struct, frozen=True, array_like=True):
    """A group as listed: ``joined`` is the configuration number of its Join, so a gid that leaves and joins
    again, perhaps as other processes, is another member."""

    gid: int
    joined: int
    endpoints: tuple[str, ...]


class Holder(msgspec.Struct, frozen=True, array_like=True):
    """Who has the data of a shard: the member (gid, joined), which gained it by configuration ``num``."""

    gid: int
    joined: int
    num: int


class Configuration(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """One numbered assignment of shards to groups.

    Attributes:
        num: its number; consecutive; 0 is the empty one.
        shards: shard → gid, NO_GROUP for nobody.
        members: the groups, ascending by gid.
        holders: shard → its last real owner (the present one if there is one); None: nobody ever owned it.
        sources: shard → the holder before that one: where the present holder pulls from; None: starts empty.
        former: members that left and are still named by a holder or a source.
        value_bytes_max: the limit of a value in this cluster, the same in all configurations.
    """

    num: int = 0
    shards: tuple[int, ...] = (NO_GROUP,) * SHARDS_DEFAULT
    members: tuple[Member, ...] = ()
    holders: tuple[Holder | None, ...] = (None,) * SHARDS_DEFAULT
    sources: tuple[Holder | None, ...] = (None,) * SHARDS_DEFAULT
    former: tuple[Member, ...] = ()
    value_bytes_max: int = VALUE_BYTES_DEFAULT

    @cached_property
    def groups(self) -> Mapping[int, tuple[str, ...]]:
        """gid → its endpoints, read-only, ascending by gid."""
        return MappingProxyType({member.gid: member.endpoints for member in self.members})

    def member(self, gid: int) -> Member | None:
        """The listed member of this gid."""
        return next((member for member in self.members if member.gid == gid), None)

    def endpoints_of(self, holder: Holder) -> tuple[str, ...]:
        """Where a holder was last known to listen; empty if it was forgotten."""
        for member in self.members + self.former:
            if (member.gid, member.joined) == (holder.gid, holder.joined):
                return member.endpoints
        return ()


def empty_configuration(shards: int = SHARDS_DEFAULT, value_bytes_max: int = VALUE_BYTES_DEFAULT) -> Configuration:
    """Configuration 0: no groups, every shard on nobody."""
    nothing = (None,) * shards
    return Configuration(0, (NO_GROUP,) * shards, (), nothing, nothing, (), value_bytes_max)


def successor(previous: Configuration, members: Sequence[Member], shards: Sequence[int]) -> Configuration:
    """The next configuration: these groups, these owners, and who held what before.

    A shard that a member gains is held by it from now on and pulled from the holder until now. A shard that
    goes to nobody keeps its holder, so its data is found again (scenario 32). A gid that left and joined again
    is another member and gains like any other (scenarios 33, 34).

    Args:
        members: ascending by gid; a new one has ``joined == previous.num + 1``.
        shards: shard → gid of one of them, or NO_GROUP; as many as before.
    """
    num = previous.num + 1
    listed = {member.gid: member for member in members}
    assert len(shards) == len(previous.shards) and [*listed] == sorted(listed)
    holders, sources = [*previous.holders], [*previous.sources]
    for shard, gid in enumerate(shards):
        if gid == NO_GROUP:
            continue
        owner, holder = listed[gid], holders[shard]
        if holder is None or (holder.gid, holder.joined) != (owner.gid, owner.joined):
            sources[shard] = holder
            holders[shard] = Holder(owner.gid, owner.joined, num)
    named = {(holder.gid, holder.joined) for holder in (*holders, *sources) if holder is not None}
    named -= {(member.gid, member.joined) for member in members}
    former = [member for member in previous.members + previous.former if (member.gid, member.joined) in named]
    return Configuration(
        num=num,
        shards=tuple(shards),
        members=tuple(members),
        holders=tuple(holders),
        sources=tuple(sources),
        former=tuple(sorted(former, key=lambda member: (member.gid, member.joined))),
        value_bytes_max=previous.value_bytes_max,
    )


def readdressed(previous: Configuration, moved: Member, endpoints: tuple[str, ...]) -> Configuration:
    """The next configuration, in which one member, present or former, is dialled elsewhere; nothing moves."""
    there = msgspec.structs.replace(moved, endpoints=endpoints)
    return msgspec.structs.replace(
        previous,
        num=previous.num + 1,
        members=tuple(there if member is moved else member for member in previous.members),
        former=tuple(there if member is moved else member for member in previous.former),
    )


def shard_of(key: str, shards: int) -> int:
    """The shard of a key: CRC-32 of the UTF-8 of its tag, or of all of it, modulo the number of shards.

    The tag stands between the first ``{`` and the next ``}``; keys of one tag live in one shard.

    >>> shard_of("{user:7}:name", 128) == shard_of("{user:7}:mail", 128)
    True
    >>> shard_of("{}a", 128) == shard_of("{}b", 128)
    False
    """
    opened = key.find("{")
    if opened >= 0:
        closed = key.find("}", opened + 1)
        if closed > opened + 1:
            key = key[opened + 1 : closed]
    return zlib.crc32(key.encode()) % shards

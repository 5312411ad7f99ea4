"""The remote names for scripts that import nothing of ours: plain values in, plain values out (contract §4).

Each call goes through a Clerk of this server, so the server finds the leader or the owning group itself, under its
own session; what a Clerk sends goes to other doors, so nothing is forwarded twice. The Clerk looks at the arguments;
the transport at their number, at what Perspective Broker cannot carry, and at how an error is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred

from twisted_kv.constants import KIB
from twisted_kv.errors import OutcomeUnknown
from twisted_kv.machines.configuration import Configuration
from twisted_kv.machines.rows import Value

STRING_BYTES_MAX: Final = 640 * KIB
"""Banana carries no longer string."""

PlainName = Callable[..., Any]
"""Its signature is the contract; it returns a plain value or a Deferred of one."""


class KeyClerk(Protocol):
    """A Clerk, as far as plain calls need it."""

    def get(self, key: str) -> Deferred[Any]: ...
    def put(self, key: str, value: Value) -> Deferred[None]: ...
    def append(self, key: str, value: Value) -> Deferred[None]: ...
    def delete(self, key: str) -> Deferred[bool]: ...
    def put_hash(self, key: str, value: Value) -> Deferred[Any]: ...


class AdminClerk(Protocol):
    """A ControllerClerk, as far as plain calls need it."""

    def join(self, groups: Mapping[int, Sequence[str]]) -> Deferred[Configuration]: ...
    def leave(self, gids: Sequence[int]) -> Deferred[Configuration]: ...
    def move(self, shard: int, gid: int) -> Deferred[Configuration]: ...
    def readdress(self, gid: int, endpoints: Sequence[str]) -> Deferred[Configuration]: ...
    def query(self, num: int = ...) -> Deferred[Configuration]: ...


def group_names(clerk: KeyClerk) -> dict[str, PlainName]:
    """The names of a group server, without its status."""

    def get(key: str) -> Deferred[Any]:
        return clerk.get(key)

    def put(key: str, value: Value) -> Deferred[None]:
        return clerk.put(key, value)

    def append(key: str, value: Value) -> Deferred[None]:
        return clerk.append(key, value)

    def delete(key: str) -> Deferred[bool]:
        return clerk.delete(key)

    def put_hash(key: str, value: Value) -> Deferred[Any]:
        return clerk.put_hash(key, value).addCallback(_told_of_what_happened)

    return {name.__name__: name for name in (get, put, append, delete, put_hash)}


def controller_names(clerk: AdminClerk) -> dict[str, PlainName]:
    """The names of a controller server, without its status."""

    def join(groups: dict[int, list[str]]) -> Deferred[dict[str, Any]]:
        return clerk.join(groups).addCallback(plain_configuration)

    def leave(gids: list[int]) -> Deferred[dict[str, Any]]:
        return clerk.leave(gids).addCallback(plain_configuration)

    def move(shard: int, gid: int) -> Deferred[dict[str, Any]]:
        return clerk.move(shard, gid).addCallback(plain_configuration)

    def readdress(gid: int, endpoints: list[str]) -> Deferred[dict[str, Any]]:
        return clerk.readdress(gid, endpoints).addCallback(plain_configuration)

    def query(num: int = -1) -> Deferred[dict[str, Any]]:
        return clerk.query(num).addCallback(plain_configuration)

    return {name.__name__: name for name in (join, leave, move, readdress, query)}


def plain_configuration(configuration: Configuration) -> dict[str, Any]:
    """A configuration as plain values: num, shards (a list of gids), groups (gid → list of endpoints)."""
    return {
        "num": configuration.num,
        "shards": list(configuration.shards),
        "groups": {gid: list(endpoints) for gid, endpoints in configuration.groups.items()},
    }


def _told_of_what_happened(previous: Value) -> Value:
    """The answer of a put_hash. It took effect: the ValueTooLarge of the transport, a definite no, would be a lie."""
    size = len(previous.encode()) if isinstance(previous, str) else len(previous)
    if size > STRING_BYTES_MAX:
        raise OutcomeUnknown(f"it took effect, but the previous value has {size} bytes: use a Clerk for such values")
    return previous

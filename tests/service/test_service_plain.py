from __future__ import annotations

import inspect
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from twisted_kv.errors import OutcomeUnknown, Unavailable
from twisted_kv.machines.configuration import Configuration, Member
from twisted_kv.service.plain import STRING_BYTES_MAX, PlainName, controller_names, group_names, plain_configuration

CONFIGURATION = Configuration(num=3, shards=(100, 100, 0), members=(Member(100, 1, ("tcp:a:1", "tcp:b:1")),))
PLAIN = {"num": 3, "shards": [100, 100, 0], "groups": {100: ["tcp:a:1", "tcp:b:1"]}}


class Clerk:
    """Answers every call alike, and remembers it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> Deferred[Any]:
            self.calls.append((name, *args))
            return fail(self.answer) if isinstance(self.answer, Exception) else succeed(self.answer)

        return call


def result(name: PlainName, *args: Any, **kwargs: Any) -> Any:
    ended: list[Any] = []
    name(*args, **kwargs).addBoth(ended.append)
    if isinstance(ended[0], Failure):
        ended[0].raiseException()
    return ended[0]


def test_the_names_of_a_group_server() -> None:
    """Contract §4: group servers get put append delete put_hash."""
    clerk = Clerk("old")
    names = group_names(clerk)
    assert names.keys() == {"get", "put", "append", "delete", "put_hash"}
    assert result(names["get"], "k") == "old"
    assert result(names["put"], "k", "v") == "old"
    assert result(names["append"], "k", b"v") == "old"
    assert result(names["delete"], "k") == "old"
    assert result(names["put_hash"], "k", "v") == "old"
    assert clerk.calls == [
        ("get", "k"),
        ("put", "k", "v"),
        ("append", "k", b"v"),
        ("delete", "k"),
        ("put_hash", "k", "v"),
    ]


def test_the_names_of_a_controller_server() -> None:
    """Contract §4: join leave move readdress query return num, shards and groups as plain values."""
    clerk = Clerk(CONFIGURATION)
    names = controller_names(clerk)
    assert names.keys() == {"join", "leave", "move", "readdress", "query"}
    assert result(names["join"], {100: ["tcp:a:1"]}) == PLAIN
    assert result(names["leave"], [100]) == PLAIN
    assert result(names["move"], 3, 100) == PLAIN
    assert result(names["readdress"], 100, ["tcp:a:1"]) == PLAIN
    assert result(names["query"], 2) == PLAIN
    assert result(names["query"]) == PLAIN
    assert clerk.calls[-2:] == [("query", 2), ("query", -1)]


def test_plain_values_are_what_banana_carries() -> None:
    """Hazard S1: only int, str, list, dict leave a server; a subclass would arrive as something else."""
    plain = plain_configuration(CONFIGURATION)
    assert plain == PLAIN
    assert [type(value) for value in (plain["num"], plain["shards"], plain["groups"])] == [int, list, dict]


def test_the_signatures_are_the_contract() -> None:
    """Contract §4: the transport binds what a script sends to them, and refuses what does not fit."""
    names = group_names(Clerk(None)) | controller_names(Clerk(None))
    assert {name: ", ".join(inspect.signature(function).parameters) for name, function in names.items()} == {
        "get": "key",
        "put": "key, value",
        "append": "key, value",
        "delete": "key",
        "put_hash": "key, value",
        "join": "groups",
        "leave": "gids",
        "move": "shard, gid",
        "readdress": "gid, endpoints",
        "query": "num",
    }


def test_errors_pass_as_they_are() -> None:
    with pytest.raises(Unavailable):
        result(group_names(Clerk(Unavailable("no")))["get"], "k")


def test_a_put_hash_whose_answer_is_too_large_has_happened() -> None:
    """Contract §6: definite means that it did not happen; this one did, and PB carries 640 KiB (ecosystem §1.1)."""
    carried = "é" * (STRING_BYTES_MAX // 2)
    assert result(group_names(Clerk(carried))["put_hash"], "k", "v") == carried
    with pytest.raises(OutcomeUnknown):
        result(group_names(Clerk("v" * (STRING_BYTES_MAX + 1)))["put_hash"], "k", "v")

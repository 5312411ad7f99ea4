from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.python.failure import Failure

from twisted_kv.admin.load import PUTS_AT_ONCE, dump, load, parsed
from twisted_kv.admin.running import Refusal
from twisted_kv.errors import OutcomeUnknown, ValueTooLarge
from twisted_kv.machines.commands import Scanned
from twisted_kv.machines.configuration import Configuration, Holder, shard_of

SHARDS = 4
SECONDS = 7.0


class Clerk:
    """A store in memory; a scan gives two keys at a time."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.flying = 0
        self.most = 0
        self.fails: dict[str, Exception] = {}
        self.scans = 0
        self.owned = [True] * SHARDS

    def put(self, key: str, value: Any, *, timeout: float) -> Deferred[None]:
        assert timeout == SECONDS
        if key in self.fails:
            return fail(self.fails[key])
        self.data[key] = value
        return succeed(None)

    @property
    def configuration(self) -> Configuration:
        holders = tuple(Holder(1, 1, 1) if owned else None for owned in self.owned)
        return Configuration(num=1, shards=(1,) * SHARDS, holders=holders)

    def scan(self, shard: int, after: str | None, bytes_max: int, *, timeout: float) -> Deferred[Scanned]:
        assert timeout == SECONDS
        assert self.owned[shard]
        self.scans += 1
        keys = sorted(key for key in self.data if shard_of(key, SHARDS) == shard and (after is None or key > after))
        return succeed(Scanned(tuple(keys[:2]), tuple(self.data[key] for key in keys[:2]), len(keys) <= 2))


def result(work: Coroutine[Any, Any, Any]) -> Any:
    ended: list[Any] = []
    ensureDeferred(work).addBoth(ended.append)
    if isinstance(ended[0], Failure):
        ended[0].raiseException()
    return ended[0]


def silent(done: int) -> None: ...


@given(st.dictionaries(st.text(), st.text() | st.binary(), max_size=30))
def test_what_was_dumped_is_what_is_loaded(data: dict[str, Any]) -> None:
    """Contract §2: dump writes what load reads, text as text and bytes as bytes."""
    giver, taker = Clerk(), Clerk()
    giver.data = data
    lines: list[str] = []
    assert result(dump(giver, giver.configuration, lines.append, SECONDS, silent)) == len(data)
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines)
    assert result(load(taker, lines, SECONDS, silent)) == len(data)
    assert taker.data == data


def test_a_scan_goes_on_until_the_last_key() -> None:
    clerk = Clerk()
    clerk.data = {f"{{tag}}{number}": "v" for number in range(5)}
    lines: list[str] = []
    assert result(dump(clerk, clerk.configuration, lines.append, SECONDS, silent)) == 5
    assert [json.loads(line)["key"] for line in lines] == sorted(clerk.data)


def test_a_shard_that_nobody_ever_owned_is_not_asked_for() -> None:
    """Nobody could answer, and there is nothing in it."""
    clerk = Clerk()
    clerk.owned[2] = False
    told: list[int] = []
    assert result(dump(clerk, clerk.configuration, lambda line: None, SECONDS, told.append)) == 0
    assert clerk.scans == SHARDS - 1
    assert told == [1, 2, 3, 4]


def test_a_key_that_stands_twice_ends_with_its_last_value() -> None:
    clerk = Clerk()
    lines = [json.dumps({"key": "k", "value": str(number)}) for number in range(3 * PUTS_AT_ONCE)]
    told: list[int] = []
    assert result(load(clerk, lines, SECONDS, told.append)) == 3 * PUTS_AT_ONCE
    assert clerk.data == {"k": str(3 * PUTS_AT_ONCE - 1)}
    assert told == [PUTS_AT_ONCE, 2 * PUTS_AT_ONCE, 3 * PUTS_AT_ONCE]


def test_empty_lines_and_bytes_are_taken() -> None:
    clerk = Clerk()
    result(load(clerk, ['{"key": "é", "value": "ü"}\n'.encode(), b"\n", b"  \n"], SECONDS, silent))
    assert clerk.data == {"é": "ü"}


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[]",
        "{}",
        '{"key": "k"}',
        '{"key": 3, "value": "v"}',
        '{"key": "k", "value": 3}',
        '{"key": "k", "value": "v", "value_base64": "YQ=="}',
        '{"key": "k", "value_base64": "?"}',
        '{"key": "k", "value_base64": 3}',
        '{"key": "k", "value": "v", "ttl": 3}',
        b"\xff",
    ],
)
def test_a_line_that_cannot_be_read_is_named(line: str | bytes) -> None:
    clerk = Clerk()
    with pytest.raises(Refusal, match="line 2: "):
        result(load(clerk, ['{"key": "a", "value": "b"}', line], SECONDS, silent))
    assert clerk.data == {"a": "b"}
    with pytest.raises(ValueError, match=r"\w"):
        parsed(line)


@pytest.mark.parametrize("kind", [OutcomeUnknown, ValueTooLarge])
def test_a_put_that_fails_is_named_and_stays_what_it_is(kind: Callable[[str], Exception]) -> None:
    """Contract §2: the exit status follows from the error."""
    clerk = Clerk()
    clerk.fails["b"] = kind("so large")
    lines = [json.dumps({"key": key, "value": ""}) for key in "abc"]
    with pytest.raises(type(kind("")), match="line 2: so large"):
        result(load(clerk, lines, SECONDS, silent))
    assert clerk.data.keys() == {"a", "c"}

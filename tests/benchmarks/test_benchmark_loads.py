"""The loads, on a clock that a test advances and on wires that it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, ensureDeferred, fail
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from benchmarks.loads import closed_loop
from benchmarks.loads.closed_loop import carry_out, key, measure
from benchmarks.loads.fsync import appends, overwrites
from benchmarks.loads.resp import Redis, ReplyError, replies
from benchmarks.tasks import Outcome, Task

STEP = 2**-7
"""A power of two: the clock adds up without errors."""


class Client:
    """Takes STEP for everything; remembers what was asked."""

    def __init__(self, clock: Clock, value: str = "v" * 256) -> None:
        self.clock = clock
        self.value = value
        self.keys: list[str] = []
        self.flying = self.most = 0
        self.error: Exception | None = None
        self.closed = False

    def put(self, key: str, value: str) -> Deferred[Any]:
        assert len(value) == 256
        return self._later(key)

    def get(self, key: str) -> Deferred[Any]:
        return self._later(key)

    async def close(self) -> None:
        self.closed = True

    def _later(self, key: str) -> Deferred[Any]:
        self.keys.append(key)
        self.flying += 1
        self.most = max(self.most, self.flying)
        return deferLater(self.clock, STEP).addCallback(self._ended)

    def _ended(self, _: None) -> Any:
        self.flying -= 1
        return fail(self.error) if self.error else self.value


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(closed_loop, "perf_counter", made.seconds)
    monkeypatch.setattr(closed_loop, "cpu_seconds", made.seconds)
    return made


def outcome_of(clock: Clock, coroutine: Any) -> Outcome:
    ended: list[Any] = []
    ensureDeferred(coroutine).addBoth(ended.append)
    for _ in range(100_000):
        if ended:
            break
        clock.advance(STEP / 2)
    [found] = ended
    assert isinstance(found, Outcome), found
    return found


def test_the_loop_is_closed_and_counts_after_the_warm_up(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    clients = [Client(clock), Client(clock)]
    task = Task((), "put", clients=6, connections=2, seconds=1.0, warmup_seconds=0.5, keys=9)
    found = outcome_of(clock, measure(clock, task, clients))  # type: ignore[arg-type]
    assert [client.most for client in clients] == [3, 3]
    assert len(found.latencies_us) == pytest.approx(6 / STEP, abs=12)
    assert found.latencies_us[0] == pytest.approx(STEP * 1e6, abs=1)
    assert (found.seconds, found.errors) == (1.0, 0)
    assert found.cpu_seconds == pytest.approx(1.0)
    assert {name for client in clients for name in client.keys} == {key(number) for number in range(9)}
    assert capsys.readouterr().out == "begin\nend\n"


def test_what_fails_is_counted_and_not_timed(clock: Clock) -> None:
    client = Client(clock)
    client.error = ConnectionLost()
    found = outcome_of(clock, measure(clock, Task((), "put", seconds=0.1), [client]))  # type: ignore[list-item]
    assert found.latencies_us == []
    assert found.errors > 1
    assert found.first_error.startswith("ConnectionLost: ")


def test_a_get_that_finds_nothing_is_an_error(clock: Clock) -> None:
    client = Client(clock, value="")
    found = outcome_of(clock, measure(clock, Task((), "get", seconds=0.1), [client]))  # type: ignore[list-item]
    assert (found.latencies_us, found.first_error) == ([], "LookupError: a key that was filled has no value")


def test_every_key_is_filled_once_and_connections_are_closed(clock: Clock) -> None:
    made: list[Client] = []

    async def connect(_: Any, __: Task) -> Any:
        made.append(Client(clock))
        return made[-1]

    outcome_of(clock, carry_out(clock, Task((), "fill", keys=600), connect))
    [client] = made
    assert sorted(client.keys) == [key(number) for number in range(600)]
    assert client.most == closed_loop.FILL_AT_ONCE
    assert client.closed


def test_ready_is_when_a_put_was_acknowledged(clock: Clock) -> None:
    made: list[Client] = []

    async def connect(_: Any, __: Task) -> Any:
        if len(made) < 2:
            made.append(Client(clock))
            made[-1].error = ConnectionLost() if len(made) == 1 else None
            return made[-1]
        raise AssertionError("asked again although one was acknowledged")

    outcome_of(clock, carry_out(clock, Task((), "ready"), connect))
    assert len(made) == 2
    assert all(client.closed for client in made)


@given(
    st.lists(st.sampled_from([b"+OK\r\n", b"$3\r\na\r\n\r\n", b"$-1\r\n", b"-ERR no\r\n", b"$0\r\n\r\n"])), st.data()
)
def test_replies_in_pieces_are_the_replies_in_one(parts: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(parts)
    expected, rest = replies(whole)
    assert (len(expected), rest) == (len(parts), b"")
    found: list[Any] = []
    left = b""
    while whole:
        size = data.draw(st.integers(1, len(whole)))
        more, left = replies(left + whole[:size])
        found += more
        whole = whole[size:]
    assert list(map(repr, found)) == list(map(repr, expected))


class Wire(StringTransport):
    def setTcpNoDelay(self, enabled: bool) -> None:
        assert enabled


def test_answers_come_in_the_order_of_the_commands() -> None:
    redis, wire = Redis(), Wire()
    redis.makeConnection(wire)
    ended: list[Any] = []
    redis.put("k", "v").addBoth(ended.append)
    redis.get("k").addBoth(ended.append)
    refused = redis.get("k")
    assert wire.value().startswith(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n*2\r\n$3\r\nGET\r\n")
    redis.dataReceived(b"+OK\r\n$1\r\nv")
    redis.dataReceived(b"\r\n-ERR no\r\n")
    assert ended == [b"OK", b"v"]
    refused.addErrback(lambda failure: ended.append(failure.check(ReplyError)))
    assert ended[-1] is ReplyError


def test_what_was_asked_fails_with_the_connection() -> None:
    redis, ended = Redis(), []
    redis.makeConnection(Wire())
    for ask in (redis.get("k"), redis.put("k", "v")):
        ask.addErrback(lambda failure: ended.append(failure.check(ConnectionLost)))
    redis.connectionLost(Failure(ConnectionDone()))
    redis.get("k").addErrback(lambda failure: ended.append(failure.check(ConnectionLost)))
    assert ended == [ConnectionLost] * 3


def test_appending_grows_and_overwriting_does_not(tmp_path: Path) -> None:
    append = appends(tmp_path / "a", b"v" * 10)
    overwrite = overwrites(tmp_path / "b", b"v" * 2**22)
    size = (tmp_path / "b").stat().st_size
    for _ in range(3):
        append()
        overwrite()
    assert (tmp_path / "a").read_bytes() == b"v" * 30
    assert (tmp_path / "b").stat().st_size == size == 2**23
    assert set((tmp_path / "b").read_bytes()) == {ord("v")}

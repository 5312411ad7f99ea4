"""The socket stage itself: a killed server is dead at once, and bad weather is as bad as said."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_twisted
from scenario_cluster import CONTROLLERS, Setting, Stage
from socket_stage import DELAY_SECONDS_MAX, Life, LossyNetwork, MortalDisk, SocketStage, Weather, reserved_port
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.internet.task import Clock, deferLater

from twisted_kv.interfaces import LostAnswer

CALLS = 600


class Echo:
    """An INetwork that answers at once with what it was given."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def send(self, endpoint: str, verb: str, body: bytes) -> None:
        self.heard.append(body)

    def call(self, endpoint: str, verb: str, body: bytes, timeout: float) -> Deferred[bytes]:
        self.heard.append(body)
        return succeed(body)


def outcomes(network: LossyNetwork, clock: Clock) -> Counter[str]:
    """How many calls came back so."""
    counted: Counter[str] = Counter()
    for _ in range(CALLS):
        answer = network.call("e", "verb", b"body", 1.0)
        answer.addCallbacks(
            lambda _: counted.update(["answered"]),
            lambda failure: counted.update([str(failure.value)]) if failure.check(LostAnswer) else failure,
        )
    clock.advance(DELAY_SECONDS_MAX)
    return counted


def test_bad_weather_loses_a_tenth_of_the_requests_and_a_tenth_of_the_answers() -> None:
    """Scenario §2.0.1: 81 % succeed, 10 % never run, 9 % run and look failed."""
    clock, echo, weather = Clock(), Echo(), Weather()
    network = LossyNetwork(echo, clock, Random(1), weather)  # type: ignore[arg-type]
    assert outcomes(network, clock) == {"answered": CALLS}
    weather.bad = True
    echo.heard.clear()
    counted = outcomes(network, clock)
    assert abs(counted["answered"] / CALLS - 0.81) < 0.03
    assert abs(counted["e: the request was lost"] / CALLS - 0.10) < 0.03
    assert abs(len(echo.heard) / CALLS - 0.90) < 0.03
    assert sum(counted.values()) == CALLS


def test_bad_weather_delays_and_loses_what_is_sent_one_way() -> None:
    """Scenario §2.0.1: 0 to 26 ms, so that messages overtake each other; a tenth is lost."""
    clock, echo, weather = Clock(), Echo(), Weather()
    network = LossyNetwork(echo, clock, Random(1), weather)  # type: ignore[arg-type]
    weather.bad = True
    for number in range(CALLS):
        network.send("e", "verb", b"%d" % number)
    assert echo.heard == []
    clock.pump([DELAY_SECONDS_MAX / 10] * 11)
    assert abs(len(echo.heard) / CALLS - 0.90) < 0.03
    assert echo.heard != sorted(echo.heard, key=int)


class Talker(Protocol):
    """Notes all that it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def dataReceived(self, data: bytes) -> None:
        self.heard.append(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.heard.append("lost")


@pytest_twisted.ensureDeferred
async def test_a_life_that_is_over_hears_and_does_nothing_more() -> None:
    """As after SIGKILL: no timer, no disk, no word from either kind of connection; the other side sees them drop, and
    the port can be taken again."""
    from twisted.internet import reactor

    ports = reserved_port(), reserved_port()
    mine, theirs = [held.getsockname()[1] for held in ports]
    life, other = Life(reactor), Life(reactor)
    accepted, dialled, their_accepted, their_dialled = talkers = [Talker() for _ in range(4)]
    worked: list[str] = []
    life.listenTCP(mine, Factory.forProtocol(lambda: accepted), interface="127.0.0.1")
    other.listenTCP(theirs, Factory.forProtocol(lambda: their_accepted), interface="127.0.0.1")
    life.connectTCP("127.0.0.1", theirs, ClientFactory.forProtocol(lambda: dialled))
    other.connectTCP("127.0.0.1", mine, ClientFactory.forProtocol(lambda: their_dialled))
    await until(lambda: all(talker.transport is not None for talker in talkers))
    for talker in (their_accepted, their_dialled):
        talker.transport.write(b"too late")
    life.callLater(0, worked.append, "timer")
    closed = life.end()
    life.callLater(0, worked.append, "later timer")
    MortalDisk(life).run(lambda: worked.append("disk"))
    await closed
    await until(lambda: their_accepted.heard == their_dialled.heard == ["lost"])
    assert (worked, accepted.heard, dialled.heard) == ([], [], [])
    again = Life(reactor)
    again.listenTCP(mine, Factory(), interface="127.0.0.1")
    await again.end()
    await other.end()
    for held in ports:
        held.close()


@pytest_twisted.ensureDeferred
async def test_a_server_that_stops_by_itself_fails_the_scenario(tmp_path: Path) -> None:
    """A stage that overlooked it would pass with the other two alone."""

    async def scenario(stage: Stage) -> None:
        await stage.query()
        await stage.stop(CONTROLLERS, 1)
        port = int(stage.endpoints(CONTROLLERS)[0].rpartition(":")[2])
        with socket.create_server(("127.0.0.1", port)):
            await stage.start(CONTROLLERS, 1)
        await stage.query()

    with pytest.raises(AssertionError, match=r"ctl-1 stopped by itself(.|\n)*cannot listen"):
        await SocketStage(Setting(str(tmp_path), gids=())).play(scenario)


async def until(true: Callable[[], bool]) -> None:
    """Wait, five seconds at the most."""
    from twisted.internet import reactor

    for _ in range(500):
        if true():
            return
        await deferLater(reactor, 0.01)
    raise AssertionError("it has not come about")

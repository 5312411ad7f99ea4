"""The lab's part 3A: a key/value service on consensus, whose log is never cut (scenarios §2.2).

What the rows of the matrix assert stands in ``kv_lab.generic``; here stands what is peculiar to each, and a fault of
one line that makes it fail. Phases are shortened where a row makes thousands of calls in the labs' five seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kv_lab import GID, SNAPSHOTTING, KvStage, Row, generic
from scenario_cluster import together

SPEED_SECONDS_MAX = 1000 * 0.1 / 3


def test_basic_3a(tmp_path: Path) -> None:
    """Scenario §2.2 Basic3A: one client, no faults.

    Fails if an append replaces the value.
    """
    generic(tmp_path, Row(clients=1, servers=5))


def test_concurrent_3a(tmp_path: Path) -> None:
    """Scenario §2.2 Concurrent3A: five clients, whose commands share entries.

    Fails if ``Sessions.open`` gives everybody the same number.
    """
    generic(tmp_path, Row(clients=5, servers=5, seconds=2.0))


def test_unreliable_3a(tmp_path: Path) -> None:
    """Scenario §2.2 Unreliable3A: a tenth of the requests and a tenth of the answers are lost.

    Fails if ``Sessions.recall`` does not look for a stored answer.
    """
    generic(tmp_path, Row(clients=5, servers=5, unreliable=True, calls_min=500))


def test_many_partitions_one_client_3a(tmp_path: Path) -> None:
    """Scenario §2.2 ManyPartitionsOneClient3A: every second each server goes to one of two sides.

    Fails if a vote is granted without looking at the candidate's log.
    """
    generic(tmp_path, Row(clients=1, servers=5, partitions=True, calls_min=500))


def test_many_partitions_many_clients_3a(tmp_path: Path) -> None:
    """Scenario §2.2 ManyPartitionsManyClients3A.

    Fails if a Clerk sends a repeat under a new sequence.
    """
    generic(tmp_path, Row(clients=5, servers=5, partitions=True, seconds=3.0))


def test_persist_one_client_3a(tmp_path: Path) -> None:
    """Scenario §2.2 PersistOneClient3A: all servers are killed and come back on their disks.

    Fails if ``LogStore.save`` leaves entries out.
    """
    generic(tmp_path, Row(clients=1, servers=5, crash=True))


def test_persist_concurrent_3a(tmp_path: Path) -> None:
    """Scenario §2.2 PersistConcurrent3A.

    Fails if a replica that starts takes what is in its log for applied.
    """
    generic(tmp_path, Row(clients=5, servers=5, crash=True, seconds=2.0))


def test_persist_concurrent_unreliable_3a(tmp_path: Path) -> None:
    """Scenario §2.2 PersistConcurrentUnreliable3A.

    Fails if a Clerk gives a write up whose answer did not come.
    """
    generic(tmp_path, Row(clients=5, servers=5, unreliable=True, crash=True, calls_min=500))


def test_persist_partition_3a(tmp_path: Path) -> None:
    """Scenario §2.2 PersistPartition3A.

    Fails if ``LogStore.save`` leaves term and vote out.
    """
    generic(tmp_path, Row(clients=5, servers=5, crash=True, partitions=True, seconds=3.0))


def test_persist_partition_unreliable_3a(tmp_path: Path) -> None:
    """Scenario §2.2 PersistPartitionUnreliable3A.

    Fails if a follower commits whatever it was sent.
    """
    generic(tmp_path, Row(clients=5, servers=5, unreliable=True, crash=True, partitions=True, calls_min=250))


def test_persist_partition_unreliable_linearizable_3a(tmp_path: Path) -> None:
    """Scenario §2.2 PersistPartitionUnreliableLinearizable3A: fifteen clients, seven servers, shared keys.

    Fails if a Clerk sends a repeat under a new sequence: then only the history can tell.
    """
    row = Row(15, 7, unreliable=True, crash=True, partitions=True, random_keys=True, seconds=4.0, calls_min=500)
    generic(tmp_path, row)


@pytest.mark.parametrize("log_bytes_max", [-1, SNAPSHOTTING], ids=["speed_3a", "speed_3b"])
def test_speed(tmp_path: Path, log_bytes_max: int) -> None:
    """Scenario §2.2 Speed3A and Speed3B: 1,000 appends one after the other, 30 or more per virtual second; all tokens
    are there once, in order.

    Fails if the pump runs with the next tick, not in the next turn: one commit per heartbeat, as it were.
    """
    stage = KvStage(tmp_path, 3, log_bytes_max)

    async def scenario(stage: KvStage) -> None:
        clerk = stage.clerk()
        await stage.recorded(clerk, "get", "x")
        begun = stage.clock.seconds()
        tokens = [f"x 0 {number} y" for number in range(1000)]
        for token in tokens:
            await stage.recorded(clerk, "append", "x", token)
        assert stage.clock.seconds() - begun <= SPEED_SECONDS_MAX
        assert await stage.recorded(clerk, "get", "x") == "".join(tokens)
        stage.check_sizes()

    stage.perform(scenario)


def test_unreliable_one_key_3a(tmp_path: Path) -> None:
    """Scenario §2.2 UnreliableOneKey3A: five clients append ten tokens each to one key: all fifty stand there once,
    those of each client in its order.

    Fails if ``Sessions.recall`` does not look for a stored answer.
    """
    stage = KvStage(tmp_path, 3)

    async def scenario(stage: KvStage) -> None:
        stage.set_unreliable(True)
        clerk = stage.clerk()
        await stage.recorded(clerk, "put", "k", "")
        tokens = [[f"x {client} {number} y" for number in range(10)] for client in range(5)]
        await together(append_all(stage, "k", own) for own in tokens)
        value = await stage.recorded(clerk, "get", "k")
        assert len(value) == sum(len(token) for own in tokens for token in own)
        for own in tokens:
            places = [value.index(token) for token in own]
            assert places == sorted(places)

    stage.perform(scenario)


async def append_all(stage: KvStage, key: str, tokens: list[str]) -> None:
    """One after the other, by a Clerk of its own."""
    clerk = stage.clerk()
    for token in tokens:
        await stage.recorded(clerk, "append", key, token)


def test_one_partition_3a(tmp_path: Path) -> None:
    """Scenario §2.2 OnePartition3A, its three printed results: progress in majority; no progress in minority;
    completion after heal. Whatever was answered is linearizable.

    Fails if two of five are a quorum.
    """
    stage = KvStage(tmp_path, 5)

    async def scenario(stage: KvStage) -> None:
        await stage.recorded(stage.clerk(), "put", "1", "13")
        leader = await stage.find_leader(GID)
        minority = {leader, leader % 5 + 1}
        (q, majority_clerk), (a, putting), (b, getting) = (stage.named_clerk() for _ in range(3))
        stage.partition(
            [q, *(stage.server(node) for node in stage.nodes if node not in minority)],
            [a, b, *map(stage.server, minority)],
        )
        await progress_in_majority(stage, majority_clerk)
        put = stage.recorded(putting, "put", "1", "15")
        get = stage.recorded(getting, "get", "1")
        await no_progress_in_minority(stage, majority_clerk, [put, get])
        stage.heal()
        await completion_after_heal(stage, majority_clerk, put, get)

    stage.perform(scenario)


async def progress_in_majority(stage: KvStage, clerk: Any) -> None:
    """What the three others decide is decided."""
    await stage.recorded(clerk, "put", "1", "14")
    assert await stage.recorded(clerk, "get", "1") == "14"


async def no_progress_in_minority(stage: KvStage, clerk: Any, calls: list[Any]) -> None:
    """Neither call comes back within a second; meanwhile the majority goes on."""
    await stage.sleep(1.0)
    assert not any(call.called for call in calls)
    assert await stage.recorded(clerk, "get", "1") == "14"
    await stage.recorded(clerk, "put", "1", "16")
    assert await stage.recorded(clerk, "get", "1") == "16"
    assert not any(call.called for call in calls)


async def completion_after_heal(stage: KvStage, clerk: Any, put: Any, get: Any) -> None:
    """Put and get come back within 1 + 3 s; the put, which nobody had heard, comes last."""
    healed = stage.clock.seconds()
    await put
    assert await get in ("15", "16")
    assert stage.clock.seconds() - healed <= 4.0
    assert await stage.recorded(clerk, "get", "1") == "15"

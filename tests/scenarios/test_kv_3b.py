"""The lab's part 3B: the key/value service with a log that is cut, maxraftstate 1,000 (scenarios §2.2).

What the rows of the matrix assert stands in ``kv_lab.generic``; Speed3B stands beside Speed3A.
"""

from __future__ import annotations

from pathlib import Path

from kv_lab import GID, SNAPSHOTTING, KvStage, Row, generic

from twisted_kv.transport.wire import PEER_ROWS

SNAPSHOT_BYTES_MAX = 500


def test_snapshot_recover_3b(tmp_path: Path) -> None:
    """Scenario §2.2 SnapshotRecover3B: one client; all servers come back on snapshot and log.

    Fails if a checkpoint leaves the sessions out.
    """
    generic(tmp_path, Row(clients=1, servers=5, crash=True, log_bytes_max=SNAPSHOTTING))


def test_snapshot_recover_many_clients_3b(tmp_path: Path) -> None:
    """Scenario §2.2 SnapshotRecoverManyClients3B: twenty clients, whose commands share entries of many hundred bytes.

    Fails if the log is not cut behind a checkpoint.
    """
    row = Row(clients=20, servers=5, crash=True, log_bytes_max=SNAPSHOTTING, seconds=1.0, calls_min=2000)
    generic(tmp_path, row)


def test_snapshot_unreliable_3b(tmp_path: Path) -> None:
    """Scenario §2.2 SnapshotUnreliable3B.

    Fails if a replica does not count what it applies, and so never takes a snapshot.
    """
    generic(tmp_path, Row(clients=5, servers=5, unreliable=True, log_bytes_max=SNAPSHOTTING, calls_min=500))


def test_snapshot_unreliable_recover_3b(tmp_path: Path) -> None:
    """Scenario §2.2 SnapshotUnreliableRecover3B.

    Fails if the log is cut up to the last entry applied, not up to the checkpoint.
    """
    generic(tmp_path, Row(5, 5, unreliable=True, crash=True, log_bytes_max=SNAPSHOTTING, calls_min=500))


def test_snapshot_unreliable_recover_concurrent_partition_3b(tmp_path: Path) -> None:
    """Scenario §2.2 SnapshotUnreliableRecoverConcurrentPartition3B: who was cut off comes back by rows of the leader.

    Fails if rows of a peer are installed without taking them into memory.
    """
    row = Row(5, 5, unreliable=True, crash=True, partitions=True, log_bytes_max=SNAPSHOTTING, calls_min=250)
    assert generic(tmp_path, row).attempts[PEER_ROWS] > 0


def test_snapshot_unreliable_recover_concurrent_partition_linearizable_3b(tmp_path: Path) -> None:
    """Scenario §2.2 SnapshotUnreliableRecoverConcurrentPartitionLinearizable3B: fifteen clients, seven servers, shared
    keys.

    Fails if the log is not begun anew behind rows of a peer.
    """
    row = Row(15, 7, True, True, True, SNAPSHOTTING, random_keys=True, seconds=4.0, calls_min=500)
    assert generic(tmp_path, row).attempts[PEER_ROWS] > 0


def test_snapshot_rpc_3b(tmp_path: Path) -> None:
    """Scenario §2.2 SnapshotRPC3B: a server behind the log's start is given rows, and then stands for the one that gave
    them. Raft state ≤ 8 × maxraftstate although one server is behind; every get right in each partition.

    Fails if a log is kept for a follower that is behind, or if rows of a peer are installed without taking them into
    memory.
    """
    stage = KvStage(tmp_path, 3, SNAPSHOTTING)

    async def scenario(stage: KvStage) -> None:
        first, second, third = map(stage.server, stage.nodes)
        clerk = stage.clerk()
        values = (
            {"a": "A"} | {str(number): str(number) for number in range(50)} | {"b": "B", "c": "C", "d": "D", "e": "E"}
        )

        async def put(*keys: str) -> None:
            for key in keys:
                await stage.recorded(clerk, "put", key, values[key])

        async def check(*keys: str) -> None:
            for key in keys:
                assert await stage.recorded(clerk, "get", key) == values[key]

        await put("a")
        stage.partition([first, second], [third])
        await put(*map(str, range(50)))
        await stage.sleep(1.0)
        await put("b")
        assert all(stage.raft_state_bytes(GID, node) <= 8 * SNAPSHOTTING for node in stage.nodes)
        assert stage.tally.attempts[PEER_ROWS] == 0
        stage.partition([first, third], [second])
        await put("c", "d")
        await check("a", "b", "1", "49")
        assert stage.tally.attempts[PEER_ROWS] > 0
        stage.heal()
        await put("e")
        await check("c", "e", "1")

    stage.perform(scenario)


def test_snapshot_size_3b(tmp_path: Path) -> None:
    """Scenario §2.2 SnapshotSize3B: 400 puts of one byte to one key, each read back: Raft state ≤ 8 × maxraftstate, and
    a snapshot of ≤ 500 bytes, our configuration included.

    Fails if a session keeps its answers below the floor.
    """
    stage = KvStage(tmp_path, 3, SNAPSHOTTING)

    async def scenario(stage: KvStage) -> None:
        clerk = stage.clerk()
        for _ in range(200):
            for value in ("0", "1"):
                await stage.recorded(clerk, "put", "x", value)
                assert await stage.recorded(clerk, "get", "x") == value
        stage.check_sizes()
        assert all(0 < stage.snapshot_bytes(GID, node) <= SNAPSHOT_BYTES_MAX for node in stage.nodes)

    stage.perform(scenario)

from __future__ import annotations

from pathlib import Path

import pytest

from twisted_kv.admin.inspect import inspected, replicas, rows
from twisted_kv.admin.running import Refusal
from twisted_kv.consensus.types import Entry, HardState, Ready
from twisted_kv.machines.rows import Row
from twisted_kv.storage.directory import ReplicaDirectory, open_directory


def furnished(path: Path) -> ReplicaDirectory:
    """A directory with one entry, one key and who it belongs to; still open."""
    directory = open_directory(str(path))
    directory.bind({"kind": "group", "gid": "7", "node": "2"})
    directory.log.save(Ready(hard_state=HardState(3, 2), entries=(Entry(1, 3, (b"secret command",)),)))
    checkpoint = directory.data.checkpoint()
    checkpoint.write([Row(5, 1, "key", "k", "value"), Row(5, 1, "key", "raw", b"\xff")])
    checkpoint.commit(1, 3)
    return directory


def test_a_live_replica_can_be_looked_at(tmp_path: Path) -> None:
    """House: people look with inspect at a live replica; nothing is changed."""
    directory = furnished(tmp_path / "d")
    try:
        report = inspected(tmp_path / "d")
        assert report["identity"].items() >= {"kind": "group", "gid": "7", "node": "2"}.items()
        assert report["hard_state"] == {"term": 3, "vote": 2}
        assert report["log"] | {"bytes": 0} == {"entries": 1, "first": 1, "last": 1, "bytes": 0}
        assert report["position"] == {"idx": 1, "term": 3}
        assert report["rows"] == {"key": 2}
        assert [(copy["shard"], copy["num"], copy["keys"]) for copy in report["copies"]] == [(5, 1, 2)]
        directory.log.save(Ready(entries=(Entry(2, 3, (b"more",)),)))
    finally:
        directory.close()
    assert inspected(tmp_path / "d")["log"]["entries"] == 2


def test_rows_of_a_table_or_view(tmp_path: Path) -> None:
    furnished(tmp_path).close()
    assert [(row["key"], row["value"]) for row in rows(tmp_path, "keys")] == [("k", "value"), ("raw", "/w==")]
    assert next(rows(tmp_path, "log"))["idx"] == 1
    with pytest.raises(Refusal, match="hard_state"):
        list(rows(tmp_path, 'x"; DROP TABLE entries; --'))


def test_a_node_has_two(tmp_path: Path) -> None:
    """Contract §1: DIR/controller and DIR/group."""
    for name in ("controller", "group"):
        furnished(tmp_path / name).close()
    assert replicas(tmp_path) == [tmp_path / "controller", tmp_path / "group"]
    assert replicas(tmp_path / "group") == [tmp_path / "group"]


def test_anything_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no replica directory"):
        replicas(tmp_path)
    for name in ("log.sqlite3", "data.sqlite3"):
        (tmp_path / name).write_text("no database at all, but long enough to be looked at" * 100)
    with pytest.raises(Refusal, match="not a database"):
        inspected(tmp_path)

"""A power cut leaves files as they lay; a torn write is harmless; a flipped bit is refused or harmless."""

import os

import pytest

from twisted_kv.consensus.types import Entry, HardState, Ready
from twisted_kv.errors import StartRefused
from twisted_kv.machines.rows import Row
from twisted_kv.simulation.doors import damage
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.lives.boot import Directory
from twisted_kv.storage.directory import open_directory


def opened(path):
    return open_directory(str(path), synchronous="OFF", ballast_bytes=0)


def filled(path):
    """A directory with 20 entries and 10 rows, most of them in the write-ahead logs."""
    directory = opened(path)
    for index in range(1, 21):
        directory.log.save(Ready(hard_state=HardState(index, 1), entries=(Entry(index, index, (b"x" * 50,)),)))
    for index in (5, 10, 15):
        checkpoint = directory.data.checkpoint()
        checkpoint.write([Row(0, 1, "key", f"k{number}", f"v{index}") for number in range(10)])
        checkpoint.commit(index, index)
    return directory


def held(path):
    """All that a directory gives back."""
    directory = opened(path)
    try:
        restored = directory.log.restore()
        return restored, directory.data.position(), directory.data.rows(None, 1 << 20)
    finally:
        directory.close()


@pytest.mark.parametrize("seed", range(10))
def test_what_was_committed_survives_a_power_cut_and_a_torn_write(tmp_path, seed):
    """Hazard 30: the torn rest of a transaction that was never acknowledged is dropped."""
    orderly, cut = tmp_path / "a", tmp_path / "b"
    filled(orderly).close()
    directory = filled(cut)
    checkpoint = directory.data.checkpoint()
    checkpoint.write([Row(0, 1, "key", "k1", "never committed")])
    damage.power_cut(str(cut), directory.close)
    before = sum(os.path.getsize(cut / name) for name in damage.FILES)
    damage.tear(str(cut), World(seed).random_for("torn"))
    assert sum(os.path.getsize(cut / name) for name in damage.FILES) > before
    assert held(cut) == held(orderly)


def test_a_power_cut_leaves_the_write_ahead_log(tmp_path):
    directory = filled(tmp_path)
    damage.power_cut(str(tmp_path), directory.close)
    assert all(os.path.getsize(tmp_path / name) for name in damage.FILES)


def test_a_flipped_bit_is_refused_or_harmless(tmp_path):
    """Hazard 34: never served. Over so many places some are found by checksums, some lie where nothing is."""
    outcomes = set()
    whole = None
    for seed in range(40):
        path = tmp_path / str(seed)
        damage.power_cut(str(path), filled(path).close)
        if whole is None:
            whole = held_copy(path, tmp_path / "whole")
        where = damage.flip(str(path), World(seed).random_for("flip"))
        try:
            now = held(path)
        except StartRefused:
            outcomes.add("refused")
        else:
            assert now == whole, where
            outcomes.add("harmless")
    assert outcomes == {"refused", "harmless"}


def held_copy(path, other):
    other.mkdir()
    for name in damage.FILES:
        (other / name).write_bytes((path / name).read_bytes())
    return held(other)


def test_the_last_two_transactions_are_never_flipped(tmp_path):
    """They cannot be told from torn writes (docs/storage.md)."""
    directory = opened(tmp_path)
    for index in (1, 2):
        directory.log.save(Ready(entries=(Entry(index, 1),)))
    damage.power_cut(str(tmp_path), directory.close)
    before = {name: (tmp_path / name).read_bytes() for name in damage.FILES}
    for seed in range(30):
        where = damage.flip(str(tmp_path), World(seed).random_for("flip"))
        assert not where.startswith("log.sqlite3-wal")
        for name, content in before.items():
            (tmp_path / name).write_bytes(content)


@pytest.mark.parametrize(("synchronous", "survive"), [("FULL", 20), ("EXTRA", 20), ("NORMAL", 0), ("OFF", 0)])
def test_a_power_cut_takes_commits_that_nobody_synced(tmp_path, synchronous, survive):
    """Hazards 29 and 30: what SQLite is set to decides what is left, not what the program believes."""
    directory = open_directory(str(tmp_path), synchronous=synchronous, ballast_bytes=0)
    for index in range(1, 21):
        directory.log.save(Ready(hard_state=HardState(index, 1), entries=(Entry(index, index, (b"x" * 50,)),)))
    watched = Directory(directory, directory.log)
    damage.power_cut(str(tmp_path), watched.close, watched.unsynced())
    restored, _, _ = held(tmp_path)
    assert len(restored.entries) == survive


def test_most_flips_hit_something(tmp_path):
    damage.power_cut(str(tmp_path), filled(tmp_path).close)
    held(tmp_path)  # opening moves what is in the write-ahead logs
    before = {name: (tmp_path / name).read_bytes() for name in damage.FILES if (tmp_path / name).exists()}
    hits = 0
    for seed in range(100):
        name, place = damage.flip(str(tmp_path), World(seed).random_for("flip")).split("@")
        hits += before[name][int(place)] != 0
        (tmp_path / name).write_bytes(before[name])
    assert hits >= 60

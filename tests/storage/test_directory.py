import errno
import os
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest

from twisted_kv.consensus.types import Entry, HardState, Position, Ready, Restored
from twisted_kv.errors import StartRefused
from twisted_kv.interfaces import SaveRefused
from twisted_kv.machines.rows import Row
from twisted_kv.storage import directory as module
from twisted_kv.storage.directory import open_directory
from twisted_kv.storage.faults import Damaged
from twisted_kv.storage.log_store import LogStore
from twisted_kv.storage.schema import LOG

FILES = ("data.sqlite3", "log.sqlite3")


@pytest.fixture
def opened(tmp_path):
    """Open a directory below tmp_path; all are closed in the end."""
    directories = []

    def open_(name="replica", **options):
        directory = open_directory(str(tmp_path / name), **{"synchronous": "OFF", "ballast_bytes": 0, **options})
        directories.append(directory)
        return directory

    yield open_
    for directory in directories:
        directory.close()


@pytest.fixture
def crash(tmp_path):
    """A copy of an open directory, as a killed process leaves it."""

    def crash_(directory, name="crashed"):
        (tmp_path / name).mkdir(mode=0o700)
        for file in os.listdir(directory.path):
            if not file.endswith("-shm"):
                shutil.copyfile(os.path.join(directory.path, file), tmp_path / name / file)
        return name

    return crash_


def entries(*indices, term=1):
    return tuple(Entry(index, term, (b"x",)) for index in indices)


def stand_at(directory, index, term):
    checkpoint = directory.data.checkpoint()
    checkpoint.write([Row(0, 1, "key", "k", f"at {index}")])
    checkpoint.commit(index, term)


def refusal(opened, **options):
    with pytest.raises(StartRefused) as caught:
        opened(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_new_directory_is_whole_and_private(opened, tmp_path):
    before = os.umask(0)
    try:
        directory = opened("new/parent/replica", ballast_bytes=1000)
        directory.log.save(Ready(entries=entries(1)))
        stand_at(directory, 0, 0)
    finally:
        os.umask(before)
    assert mode(directory.path) == mode(tmp_path / "new") == 0o700
    assert {*FILES, "lock", "ballast", "log.sqlite3-wal"} <= set(os.listdir(directory.path))
    assert {mode(os.path.join(directory.path, name)) for name in os.listdir(directory.path)} == {0o600}
    assert directory.durable is False
    assert opened("other", synchronous="FULL").durable is True


def test_what_was_saved_is_there_again(opened):
    first = opened()
    first.log.save(Ready(hard_state=HardState(1, 2), entries=entries(1, 2)))
    stand_at(first, 1, 1)
    first.close()
    first.close()
    again = opened(create=False)
    assert again.log.restore() == Restored(HardState(1, 2), Position(), entries(1, 2))
    assert again.data.position() == (1, 1)


def test_hazard_37_a_directory_has_one_owner(opened):
    first = opened()
    line = refusal(opened)
    assert f"process {os.getpid()}" in line and "in use" in line
    first.close()
    opened()


def test_hazard_37_the_lock_outlives_no_refusal(opened, monkeypatch):
    opened().close()
    monkeypatch.setattr(module, "DataStore", lambda *_: (_ for _ in ()).throw(StartRefused("no")))
    refusal(opened)
    monkeypatch.undo()
    opened()


def test_hazard_37_a_directory_is_bound_to_one_member(opened):
    first = opened()
    first.bind({"kind": "group", "gid": "100", "node": "1"})
    first.bind({"kind": "group", "gid": "100", "cluster": "abc"})
    first.close()
    again = opened()
    with pytest.raises(StartRefused, match="belongs to gid 100, not 200"):
        again.bind({"gid": "200", "consensus": "raft"})
    assert again.log.identity() == {"kind": "group", "gid": "100", "node": "1", "cluster": "abc"}


@pytest.mark.parametrize("missing", FILES)
def test_a_missing_file_refuses_the_start(opened, missing):
    directory = opened()
    directory.close()
    os.unlink(os.path.join(directory.path, missing))
    line = refusal(opened)
    assert missing in line and "missing" in line
    assert missing not in os.listdir(directory.path)


def test_a_write_ahead_log_without_its_file_refuses_the_start(opened, tmp_path):
    (tmp_path / "replica").mkdir()
    (tmp_path / "replica" / "log.sqlite3-wal").write_bytes(b"x")
    assert "-wal" in refusal(opened)


def test_hazard_35_a_crash_while_making_a_directory_leaves_it_whole_or_blank(opened, tmp_path, monkeypatch):
    """At every call that changes the directory; afterwards the start succeeds, with both files."""

    class Killed(BaseException):
        pass

    def run(name, calls):
        left = calls

        def counted(real):
            def call(*arguments):
                nonlocal left
                if left == 0:
                    raise Killed
                left -= 1
                return real(*arguments)

            return call

        for call in ("rename", "unlink", "fsync"):
            monkeypatch.setattr(module.os, call, counted(getattr(os, call)))
        try:
            opened(name, synchronous="FULL").close()
        finally:
            monkeypatch.undo()

    steps = 0
    while True:
        try:
            run(f"r{steps}", steps)
            break
        except Killed:
            again = opened(f"r{steps}")
            assert again.log.restore() == Restored() and again.data.position() == (0, 0)
            assert set(FILES) <= set(os.listdir(again.path))
            assert not any(name.endswith(".new") for name in os.listdir(again.path))
        steps += 1
    assert steps >= 6


def test_hazard_35_files_are_synced_before_they_are_named_and_the_directory_after(opened, tmp_path, monkeypatch):
    happened = []

    def fsync(descriptor, real=os.fsync):
        happened.append(("fsync", os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))))
        real(descriptor)

    def rename(source, target, real=os.rename):
        happened.append(("rename", os.path.basename(target)))
        real(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    opened("above/replica", synchronous="FULL")
    assert happened == [
        ("fsync", tmp_path.parent.name),
        ("fsync", tmp_path.name),
        ("fsync", "above"),
        ("fsync", "log.sqlite3.new"),
        ("fsync", "data.sqlite3.new"),
        ("fsync", "replica"),
        ("rename", "data.sqlite3"),
        ("rename", "log.sqlite3"),
        ("fsync", "replica"),
        ("fsync", "replica"),
    ]


def test_hazard_35_the_name_of_a_write_ahead_log_is_on_disk_before_anything_is_acknowledged(opened, monkeypatch):
    """SQLite makes the -wal anew at each start, and goes on when the directory could not be synced: a power cut would
    take the file away, with all that was saved in it (found by crash points)."""
    opened("replica", synchronous="FULL").close()
    logs = {f"{name}-wal" for name in FILES}
    seen = []

    def fsync(descriptor, real=os.fsync):
        if os.path.isdir(path := os.readlink(f"/proc/self/fd/{descriptor}")) and logs <= set(os.listdir(path)):
            seen.append(path)
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StartRefused, match="Input/output error"):
        opened("replica", synchronous="FULL")
    assert len(seen) == 1


def test_hazard_35_a_directory_whose_making_was_cut_short_is_named_durably_by_the_next_start(
    opened, tmp_path, monkeypatch
):
    """Killed between mkdir and the sync of its parent: what is acknowledged later would go with the directory."""
    synced = []

    def fsync(descriptor, real=os.fsync):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    (tmp_path / "above").mkdir()
    monkeypatch.setattr(os, "fsync", fsync)
    opened("above/replica", synchronous="FULL").close()
    assert synced[:2] == [str(tmp_path), str(tmp_path / "above")]
    synced.clear()
    opened("above/replica", synchronous="FULL")
    assert synced == [str(tmp_path / "above"), str(tmp_path / "above" / "replica")]


def test_servers_that_start_together_make_their_common_parent_together(opened, tmp_path, monkeypatch):
    """Found by the benchmarks: who came second was refused the start, and the group never formed."""
    here = os.path.isdir

    def not_yet(path):
        if path != str(tmp_path / "common"):
            return here(path)
        os.makedirs(path, exist_ok=True)
        monkeypatch.setattr(os.path, "isdir", here)
        return False

    monkeypatch.setattr(os.path, "isdir", not_yet)
    opened("common/one")


def test_a_parent_that_cannot_be_read_is_not_in_the_way(opened, tmp_path, monkeypatch):
    def open_(path, *arguments, real=os.open):
        if path == str(tmp_path):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, *arguments)

    (tmp_path / "replica").mkdir()
    monkeypatch.setattr(os, "open", open_)
    opened("replica", synchronous="FULL")


@pytest.mark.parametrize("unnamed", FILES)
def test_hazard_35_of_two_names_either_may_reach_the_disk_first(opened, unnamed):
    """Nothing orders two renames before the directory is synced; the start completes the other one."""
    directory = opened()
    directory.close()
    for left in (f"{unnamed}-wal", f"{unnamed}-shm"):
        Path(directory.path, left).unlink(missing_ok=True)
    os.rename(os.path.join(directory.path, unnamed), os.path.join(directory.path, f"{unnamed}.new"))
    again = opened()
    assert again.log.restore() == Restored() and again.data.position() == (0, 0)


def test_hazard_35_leftovers_are_cleared_at_start(opened):
    directory = opened()
    directory.close()
    for name in ("probe.new", "log.sqlite3.new"):
        Path(directory.path, name).write_bytes(b"half")
    opened()
    assert not any(name.endswith(".new") for name in os.listdir(directory.path))


def test_a_log_that_begins_beyond_the_data_refuses_the_start(opened):
    directory = opened()
    directory.log.reset(5, 1)
    directory.close()
    assert "the log begins behind 5, the data end at 0" in refusal(opened)


def test_a_log_whose_term_is_below_the_data_refuses_the_start(opened):
    directory = opened()
    directory.log.save(Ready(hard_state=HardState(2, 1), entries=entries(1)))
    stand_at(directory, 1, 3)
    directory.close()
    assert "term 2, the data at 3" in refusal(opened)


def test_two_terms_at_one_index_refuse_the_start(opened):
    directory = opened()
    directory.log.save(Ready(hard_state=HardState(9, 1)))
    stand_at(directory, 4, 3)
    directory.log.reset(4, 2)
    directory.close()
    assert "at 4 the log has term 2, the data have 3" in refusal(opened)


@pytest.mark.parametrize("saved", [(), (1, 2, 3), (1, 2, 3, 4, 5, 6, 7, 8, 9)])
def test_hazard_31_33_a_crash_between_data_and_log_of_a_snapshot_is_completed(opened, crash, saved):
    """The log lacks the data's (index, term): entries go, term and vote stay, and that is durable."""
    directory = opened()
    directory.log.save(Ready(hard_state=HardState(6, 3), entries=entries(*saved)))
    checkpoint = directory.data.checkpoint(fresh=True)
    checkpoint.write([Row(0, 1, "key", "k", "v")])
    checkpoint.commit(7, 5)
    completed = opened(crash(directory))
    assert completed.log.restore() == Restored(HardState(6, 3), Position(7, 5))
    again = opened(crash(completed, "once_more"))
    assert again.log.restore() == Restored(HardState(6, 3), Position(7, 5))


def test_a_disk_that_fails_while_the_log_is_begun_anew_refuses_the_start(opened, crash, monkeypatch):
    """And the next start does it."""

    def reset(log, index, term):
        raise sqlite3.OperationalError("disk I/O error")

    directory = opened()
    checkpoint = directory.data.checkpoint(fresh=True)
    directory.log.save(Ready(hard_state=HardState(6, 3)))
    checkpoint.commit(7, 5)
    name = crash(directory)
    monkeypatch.setattr(LogStore, "reset", reset)
    with pytest.raises(StartRefused, match="disk I/O error"):
        opened(name)
    monkeypatch.undo()
    assert opened(name).log.restore() == Restored(HardState(6, 3), Position(7, 5))


@pytest.mark.parametrize("trimmed", [0, 2, 3])
def test_hazard_33_a_log_that_covers_the_data_is_left_as_it_is(opened, crash, trimmed):
    directory = opened()
    directory.log.save(Ready(hard_state=HardState(2, 1), entries=entries(1, 2, 3, 4, 5)))
    stand_at(directory, 3, 1)
    if trimmed:
        directory.log.trim(trimmed, 1, 1)
    again = opened(crash(directory))
    boundary = Position(trimmed, 1) if trimmed else Position()
    assert again.log.restore() == Restored(HardState(2, 1), boundary, entries(*range(trimmed + 1, 6)))


def test_hazard_30_all_that_was_acknowledged_is_in_the_files_after_a_kill(opened, crash):
    directory = opened()
    for index in range(1, 50):
        directory.log.save(Ready(hard_state=HardState(index, 1), entries=entries(index, term=index)))
        if index % 10 == 0:
            again = opened(crash(directory, f"at{index}"))
            assert again.log.restore().hard_state.term == index
            assert len(again.log.restore().entries) == index


def test_a_newer_format_refuses_the_start(opened):
    directory = opened()
    directory.close()
    connection = sqlite3.connect(os.path.join(directory.path, "log.sqlite3"))
    connection.execute(f"PRAGMA user_version = {LOG.format + 1}")
    connection.close()
    assert "start it with a newer twisted-kv" in refusal(opened)


def test_hazard_34_a_damaged_directory_refuses_and_says_what_to_do(opened, crash, tmp_path):
    directory = opened()
    for index in range(1, 6):
        directory.log.save(Ready(entries=entries(index)))
    name = crash(directory)
    wal = tmp_path / name / "log.sqlite3-wal"
    content = bytearray(wal.read_bytes())
    content[700] ^= 8
    wal.write_bytes(content)
    with pytest.raises(Damaged, match="move the whole directory away"):
        opened(name)
    assert wal.read_bytes() == content, "the damage was left as evidence"


@pytest.mark.parametrize(
    ("prepare", "complaint"),
    [
        (lambda path: path.write_text("a file"), "File exists"),
        (lambda path: path.mkdir() or path.chmod(0o777), "written by everybody"),
        (lambda path: path.mkdir() or (path / "lock").symlink_to("/nowhere"), "lock"),
        (lambda path: path.mkdir() or (path / "log.sqlite3").mkdir(), "missing"),
    ],
)
def test_a_path_that_is_no_good_directory_refuses_the_start(opened, tmp_path, prepare, complaint):
    prepare(tmp_path / "replica")
    assert complaint in refusal(opened)


def test_a_path_below_a_file_refuses_the_start(opened, tmp_path):
    (tmp_path / "file").write_text("")
    assert "file: File exists" in refusal(opened, name="file/replica")


def test_an_unwritable_path_refuses_the_start(opened, monkeypatch):
    def denied(path, *_):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "mkdir", denied)
    assert "replica: Permission denied" in refusal(opened)


def test_nothing_is_made_when_that_was_not_asked_for(opened, tmp_path):
    assert "is no directory" in refusal(opened, create=False)
    (tmp_path / "replica").mkdir()
    assert "holds no replica" in refusal(opened, create=False)
    assert not (tmp_path / "replica" / "log.sqlite3").exists()


def test_hazard_28_the_ballast_is_released_and_held_again(opened):
    directory = opened(ballast_bytes=10_000)
    held = Path(directory.path, "ballast")
    assert held.stat().st_size == 10_000
    directory.log.save(Ready(entries=entries(*range(1, 60))))
    directory.release_ballast()
    assert not held.exists()
    assert Path(directory.path, "log.sqlite3-wal").stat().st_size == 0, "the log was moved into the room it gave"
    assert directory.reserve_ballast() and held.exists()
    assert directory.reserve_ballast(), "twice is harmless"


def test_hazard_28_a_start_on_a_full_disk_takes_the_ballast(opened, monkeypatch):
    directory = opened(ballast_bytes=10_000)
    directory.close()
    released = []
    monkeypatch.setattr(module, "_room", lambda path: 100)
    monkeypatch.setattr(module.Ballast, "release", lambda ballast: released.append(ballast))
    opened(ballast_bytes=10_000)
    assert len(released) == 1


def test_hazard_28_no_room_for_the_ballast_does_not_stop_a_start(opened, monkeypatch):
    monkeypatch.setattr(module.Ballast, "reserve", lambda ballast: False)
    directory = opened(ballast_bytes=10_000)
    directory.log.save(Ready(entries=entries(1)))
    assert not directory.reserve_ballast()


def test_hazard_28_a_log_that_cannot_be_begun_anew_for_lack_of_room_refuses_the_start(opened, monkeypatch):
    directory = opened()
    directory.log.save(Ready(hard_state=HardState(6, 3)))
    stand_at(directory, 7, 5)
    directory.close()

    def refused(*_):
        raise SaveRefused("log.sqlite3: database or disk is full")

    monkeypatch.setattr(module.LogStore, "reset", refused)
    assert "make room on the disk" in refusal(opened)
    monkeypatch.undo()
    assert opened().log.restore() == Restored(HardState(6, 3), Position(7, 5))

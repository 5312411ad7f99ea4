import errno
import json
import os
import shutil
import sqlite3
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlite_utils.cli import cli

from twisted_kv.interfaces import SaveRefused
from twisted_kv.machines.rows import MACHINE_SHARD, Row, RowKey
from twisted_kv.storage import sqlite_file
from twisted_kv.storage.data_store import DataStore
from twisted_kv.storage.faults import Damaged
from twisted_kv.storage.schema import DATA, image


@pytest.fixture
def path(tmp_path):
    (tmp_path / DATA.file).write_bytes(image(DATA))
    return str(tmp_path / DATA.file)


@pytest.fixture
def data(path):
    store = DataStore(path, "OFF")
    yield store
    store.close()


def key_row(name, value, shard=0, num=1):
    return Row(shard, num, "key", name, value)


def filled(data, rows, index=1, fresh=False):
    checkpoint = data.checkpoint(fresh)
    checkpoint.write(rows)
    checkpoint.commit(index, 1)


def read(source, bytes_max=1 << 20):
    rows, after = [], None
    while page := source.rows(after, bytes_max):
        rows += page
        after = page[-1].key
    return rows


def crashed(path, directory, name="copy.sqlite3"):
    copy = str(Path(directory) / name)
    for suffix in ("", "-wal"):
        if Path(path + suffix).exists():
            shutil.copyfile(path + suffix, copy + suffix)
    return DataStore(copy, "OFF")


def test_a_blank_store_stands_at_zero(data):
    assert data.position() == (0, 0)
    assert data.rows(None, 100) == []


def test_keys_and_values_come_back_exactly(data):
    values = ["", "text", "nul\0inside", "é\U0001f600\uffff", b"", b"\0\xff", "1", b"1", "x" * 3_000_000]
    rows = [key_row(f"{number}\0{value[:9]!r}\U00010000", value) for number, value in enumerate(values)]
    filled(data, [*rows, Row(MACHINE_SHARD, 0, "machine", "", "m")])
    assert read(data) == [Row(MACHINE_SHARD, 0, "machine", "", "m"), *rows]


def test_rows_come_in_the_order_of_their_keys(data):
    rows = [
        Row(shard, num, space, name, "v")
        for shard in (-1, 2, 10)
        for num in (1, 3)
        for space in ("key", "session")
        for name in ("", "\0", "Z", "a", "é", "\uffff", "\U00010000")
    ]
    filled(data, rows[::-1])
    assert [row.key for row in read(data, 1)] == sorted(row.key for row in rows)
    assert data.rows(RowKey(2, 3, "key", "b"), 1)[0].key == RowKey(2, 3, "key", "é")


def test_a_page_is_about_as_large_as_asked_and_never_empty_before_the_end(data):
    filled(data, [key_row(f"k{number:02}", bytes(1000)) for number in range(30)] + [key_row("k99", bytes(50_000))])
    sizes, after = [], None
    while page := data.rows(after, 10_000):
        sizes.append(sum(row.size for row in page))
        after = page[-1].key
    assert sizes[-1] > 50_000
    assert all(8_000 < size <= 10_000 for size in sizes[:-2])


def test_hazard_18_32_rows_of_every_space_and_the_position_appear_together(data, path, tmp_path):
    rows = [key_row("a", "1"), Row(0, 1, "session", "7", b"result"), Row(-1, 0, "machine", "configuration", b"3")]
    checkpoint = data.checkpoint()
    checkpoint.write(rows[:1])
    for count in (1, 2):
        halfway = crashed(path, tmp_path, f"{count}.sqlite3")
        assert (halfway.position(), read(halfway)) == ((0, 0), [])
        halfway.close()
        checkpoint.write(rows[count:])
    checkpoint.commit(12, 3)
    after = crashed(path, tmp_path, "3.sqlite3")
    assert (after.position(), read(after)) == ((12, 3), sorted(rows, key=lambda row: row.key))
    after.close()


def test_the_cost_of_a_checkpoint_follows_the_change(data):
    """100,000 keys, 10 changed: 10 rows are written, and the position."""
    filled(data, [key_row(f"user:{number}", "v" * 20) for number in range(100_000)])
    before = data._file.connection.total_changes
    filled(data, [key_row(f"user:{number * 7000}", "changed") for number in range(10)], index=2)
    assert data._file.connection.total_changes - before == 10 + 1
    assert len(read(data)) == 100_000


def test_a_slice_is_written_in_a_few_statements(data):
    """In a thread each step of a statement may wait for a busy reactor: 500 rows, in six steps or fewer."""
    filled(data, [key_row(f"{number:04}", "old") for number in range(500)])
    checkpoint = data.checkpoint()
    statements = []
    data._file.connection.set_trace_callback(statements.append)
    checkpoint.write([key_row(f"{number:04}", "new") for number in range(500)])
    assert len(statements) <= 6
    statements.clear()
    checkpoint.abort()
    checkpoint = data.checkpoint(fresh=True)
    statements.clear()
    checkpoint.write([key_row(f"{number:04}", "new") for number in range(500)])
    assert [statement[:6] for statement in statements] == ["INSERT"] * 2, "behind all there is, nothing is looked up"
    data._file.connection.set_trace_callback(None)
    checkpoint.commit(2, 1)
    assert {row.value for row in read(data)} == {"new"}


def test_what_a_checkpoint_writes_is_synced_slice_by_slice(path, monkeypatch):
    """Synced all at its commit, a large one keeps the fsyncs of the log waiting."""
    sizes = [0]
    monkeypatch.setattr(sqlite_file, "_sync_data", lambda file: sizes.append(os.fstat(file).st_size))
    store = DataStore(path, "FULL")
    checkpoint = store.checkpoint()
    for start in range(0, 10_000, 500):
        checkpoint.write([key_row(f"{number:06}", "v" * 1000) for number in range(start, start + 500)])
    assert len(sizes) == 21 and sizes[-1] > 8_000_000
    assert max(after - before for before, after in pairwise(sizes)) < 3_000_000
    checkpoint.commit(1, 1)
    assert os.path.getsize(f"{path}-wal") == 0, "and is given back"
    store.close()


def test_the_whole_file_is_asked_for_before_sqlite_opens_it(path, monkeypatch):
    """A page at a time from a disk that nobody has read takes a minute; closing it later would give up locks."""
    done = []
    connect = sqlite_file._connect
    monkeypatch.setattr(os, "posix_fadvise", lambda file, *what: done.append(what), raising=False)
    monkeypatch.setattr(sqlite_file, "_connect", lambda *where: (done.append("opened"), connect(*where))[1])
    DataStore(path, "OFF").close()
    assert done[0][0] == 0 and done[-2][0] + done[-2][1] >= os.path.getsize(path)
    assert done[-1] == "opened"


def test_hazard_27_a_sync_that_fails_is_unknown(path, monkeypatch):
    def failed(file):
        raise OSError(errno.EIO, "I/O error")

    store = DataStore(path, "FULL")
    checkpoint = store.checkpoint()
    monkeypatch.setattr(sqlite_file, "_sync_data", failed)
    with pytest.raises(OSError, match="I/O error"):
        checkpoint.write([key_row("a", "1")])
    store.close()


def test_an_aborted_checkpoint_leaves_nothing(data):
    filled(data, [key_row("a", "1")])
    checkpoint = data.checkpoint()
    checkpoint.write([key_row("a", None), key_row("b", "2")])
    checkpoint.abort()
    checkpoint.abort()
    assert read(data) == [key_row("a", "1")]
    with pytest.raises(AssertionError):
        checkpoint.write([])
    filled(data, [key_row("b", "2")], index=2)
    assert len(read(data)) == 2


def test_there_is_one_checkpoint_at_a_time_and_none_goes_back(data):
    filled(data, [], index=5)
    checkpoint = data.checkpoint()
    with pytest.raises(AssertionError):
        data.checkpoint()
    with pytest.raises(AssertionError, match="never goes back"):
        checkpoint.commit(4, 9)


def test_the_last_of_two_rows_of_one_key_counts(data):
    filled(data, [key_row("a", "1"), key_row("a", "2"), key_row("b", "1"), key_row("b", None)])
    assert read(data) == [key_row("a", "2")]


def test_a_copy_is_dropped_in_slices_and_no_other_is_touched(data):
    mine = [Row(3, 7, space, f"{number}\0", "v") for space in ("key", "session") for number in range(10)]
    others = [key_row("a", "1", 3, 6), key_row("a", "1", 3, 8), key_row("a", "1", 2, 7), key_row("a", "1", 4, 7)]
    filled(data, mine + others)
    checkpoint = data.checkpoint()
    assert [checkpoint.drop(3, 7, 8) for _ in range(4)] == [False, False, True, True]
    checkpoint.commit(2, 1)
    assert set(read(data)) == set(others)


def test_hazard_31_a_fresh_checkpoint_replaces_all_or_nothing(data, path, tmp_path):
    filled(data, [key_row("old", "1"), key_row("both", "1")])
    checkpoint = data.checkpoint(fresh=True)
    checkpoint.write([key_row("both", "2")])
    halfway = crashed(path, tmp_path)
    assert (halfway.position(), len(read(halfway))) == ((1, 1), 2)
    halfway.close()
    checkpoint.commit(50, 4)
    assert (data.position(), read(data)) == ((50, 4), [key_row("both", "2")])


def test_hazard_36_a_snapshot_stands_still_while_writes_go_on(data):
    filled(data, [key_row("a", "1"), key_row("b", "1")])
    snapshot = data.snapshot()
    first = snapshot.rows(None, 1)
    filled(data, [key_row("b", "2"), key_row("c", "2")], index=2)
    assert (snapshot.index, snapshot.term) == (1, 1)
    assert [*first, *snapshot.rows(first[-1].key, 1 << 20)] == [key_row("a", "1"), key_row("b", "1")]
    assert snapshot.rows(RowKey(0, 1, "key", "b"), 1) == []
    assert read(snapshot) == [key_row("a", "1"), key_row("b", "1")], "it can be read again from the start"
    snapshot.close()
    assert len(read(data)) == 3


def test_a_snapshot_does_not_see_an_open_checkpoint(data):
    filled(data, [key_row("a", "1")])
    checkpoint = data.checkpoint()
    checkpoint.write([key_row("a", "2")])
    snapshot = data.snapshot()
    assert read(snapshot) == [key_row("a", "1")]
    checkpoint.commit(2, 1)
    assert read(snapshot) == [key_row("a", "1")]
    snapshot.close()


def test_hazard_28_a_refused_checkpoint_is_undone_as_a_whole(data):
    filled(data, [key_row("a", "1")])
    (pages,) = data._file.connection.execute("PRAGMA page_count").fetchone()
    data._file.connection.execute(f"PRAGMA max_page_count = {pages + 5}")
    checkpoint = data.checkpoint()
    checkpoint.write([key_row("a", "2"), key_row("b", "2")])
    with pytest.raises(SaveRefused):
        checkpoint.write([key_row("c", bytes(100_000))])
    checkpoint.abort()
    assert (data.position(), read(data)) == ((1, 1), [key_row("a", "1")])
    data._file.connection.execute("PRAGMA max_page_count = 100000")
    filled(data, [key_row("c", bytes(100_000))], index=2)
    assert len(read(data)) == 2


@pytest.mark.parametrize(
    ("sql", "complaint"),
    [
        ("UPDATE rows SET value = 'x' WHERE name = 'k5'", "a row"),
        ("UPDATE rows SET value = CAST(value AS BLOB) WHERE name = 'k5'", "a row"),
        ("UPDATE rows SET value = 5 WHERE name = 'k5'", "a row"),
        ("UPDATE rows SET name = 'k51' WHERE name = 'k5'", "a row"),
        ("DELETE FROM rows WHERE name = 'k5'", "8 rows were read"),
        ("INSERT INTO rows SELECT 0, 1, 'key', 'k00', value, crc FROM rows WHERE name = 'k5'", "a row"),
        ("UPDATE position SET idx = 2", "position"),
        ("DELETE FROM position", "position"),
    ],
)
def test_hazard_34_rows_that_were_not_written_by_us_are_damage(path, sql, complaint):
    """Also a lost row is noticed, at start as well as when a snapshot is streamed."""
    store = DataStore(path, "OFF")
    filled(store, [key_row(f"k{number}", f"value {number}") for number in range(9)])
    store.close()
    connection = sqlite3.connect(path)
    connection.execute(sql)
    connection.commit()
    connection.close()
    store = DataStore(path, "OFF")
    for source in (lambda: store, store.snapshot):
        with pytest.raises(Damaged, match=complaint):
            read(source(), 200)
    store.close()


def test_hazard_34_every_flipped_bit_is_noticed_or_harmless(path):
    store = DataStore(path, "OFF")
    filled(store, [key_row(f"k{number}", "v" * 60) for number in range(60)])
    truth = read(store)
    store.close()
    sound = Path(path).read_bytes()
    noticed = 0
    for position in range(0, len(sound), 61):
        changed = bytearray(sound)
        changed[position] ^= 1 << position % 8
        Path(path).write_bytes(changed)
        store = None
        try:
            store = DataStore(path, "OFF")
            assert store.position() == (1, 1) and read(store) == truth, f"silently wrong after byte {position}"
        except AssertionError:
            raise
        except Exception as error:
            assert type(error).__name__ in ("Damaged", "StartRefused"), repr(error)
            noticed += 1
        finally:
            if store is not None:
                store.close()
    assert noticed > 50


def test_people_read_a_stopped_replica_with_sqlite_utils(data, path):
    filled(
        data,
        [key_row("user:1", "Ada", 5), key_row("user:2", b"\xff", 5), Row(5, 1, "session", "9", "x")],
    )
    data.close()
    runner = CliRunner()

    def rows(view):
        result = runner.invoke(cli, ["rows", path, view])
        assert result.exit_code == 0, result.output
        return json.loads(result.output)

    assert rows("keys") == [
        {"shard": 5, "num": 1, "key": "user:1", "value": "Ada"},
        {"shard": 5, "num": 1, "key": "user:2", "value": {"$base64": True, "encoded": "/w=="}},
    ]
    assert rows("copies") == [{"shard": 5, "num": 1, "keys": 2, "bytes": 16}]
    assert rows("spaces") == [{"space": "key", "rows": 2}, {"space": "session", "rows": 1}]


def test_what_sqlite_utils_did_not_change_is_still_sound(data, path):
    filled(data, [key_row("a", "1")])
    data.close()
    assert CliRunner().invoke(cli, ["vacuum", path]).exit_code == 0
    again = DataStore(path, "OFF")
    assert read(again) == [key_row("a", "1")]
    again.close()


def test_bytes_used_falls_when_copies_go(data, path):
    filled(data, [key_row(f"k{number}", bytes(500)) for number in range(2000)])
    full = data.bytes_used()
    filled(data, [], index=2, fresh=True)
    assert os.path.getsize(path) > 1_000_000
    assert data.bytes_used() < full - 1_000_000


class DataTwin(RuleBasedStateMachine):
    """A store beside a dict, with crashes before, in and after checkpoints."""

    names = st.text(st.characters(exclude_categories=["Cs"]), max_size=3) | st.sampled_from(["\0", "a\0b", "a", "b"])
    keys = st.tuples(st.integers(-1, 2), st.integers(0, 2), st.sampled_from(["key", "session"]), names)
    values = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.binary(max_size=20)

    @initialize()
    def begin(self):
        self.directory = tempfile.TemporaryDirectory()
        self.path = str(Path(self.directory.name) / "0.sqlite3")
        Path(self.path).write_bytes(image(DATA))
        self.data = DataStore(self.path, "OFF")
        self.committed, self.index, self.lives = {}, 0, 0
        self.checkpoint, self.pending = None, {}

    def teardown(self):
        self.data.close()
        self.directory.cleanup()

    @precondition(lambda self: self.checkpoint is None)
    @rule(fresh=st.booleans())
    def open(self, fresh):
        self.checkpoint = self.data.checkpoint(fresh)
        self.pending = {} if fresh else dict(self.committed)

    @precondition(lambda self: self.checkpoint is not None)
    @rule(rows=st.dictionaries(keys, values, max_size=8))
    def write(self, rows):
        self.checkpoint.write([Row(*key, value) for key, value in rows.items()])
        self.pending |= rows
        self.pending = {key: value for key, value in self.pending.items() if value is not None}

    @precondition(lambda self: self.checkpoint is not None)
    @rule(shard=st.integers(-1, 2), num=st.integers(0, 2), rows_max=st.integers(1, 3))
    def drop(self, shard, num, rows_max):
        mine = sorted(key for key in self.pending if key[:2] == (shard, num))
        assert self.checkpoint.drop(shard, num, rows_max) == (len(mine) <= rows_max)
        for key in mine[:rows_max]:
            del self.pending[key]

    @precondition(lambda self: self.checkpoint is not None)
    @rule()
    def commit(self):
        self.index += 1
        self.checkpoint.commit(self.index, 1)
        self.committed, self.checkpoint = self.pending, None

    @precondition(lambda self: self.checkpoint is not None)
    @rule()
    def abort(self):
        self.checkpoint.abort()
        self.checkpoint = None

    @rule()
    def crash(self):
        self.lives += 1
        survivor = crashed(self.path, self.directory.name, f"{self.lives}.sqlite3")
        self.data.close()
        self.path = str(Path(self.directory.name) / f"{self.lives}.sqlite3")
        self.data, self.checkpoint = survivor, None

    @invariant()
    def a_reader_sees_what_the_twin_has(self):
        snapshot = self.data.snapshot()
        got = {(row.shard, row.num, row.space, row.name): row.value for row in read(snapshot, 100)}
        assert (snapshot.index, got) == (self.index, self.committed)
        assert all(type(got[key]) is type(value) for key, value in self.committed.items())
        snapshot.close()


def test_hazard_30_the_data_are_as_their_twin_after_any_crash():
    run_state_machine_as_test(DataTwin, settings=settings(max_examples=40, stateful_step_count=20, deadline=None))

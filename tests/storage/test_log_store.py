import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from twisted_kv.consensus.types import Entry, HardState, Position, Ready, Restored
from twisted_kv.interfaces import SaveRefused
from twisted_kv.storage.faults import Damaged
from twisted_kv.storage.log_store import LogStore
from twisted_kv.storage.schema import LOG, image


@pytest.fixture
def path(tmp_path):
    (tmp_path / LOG.file).write_bytes(image(LOG))
    return str(tmp_path / LOG.file)


@pytest.fixture
def log(path):
    store = LogStore(path, "FULL")
    yield store
    store.close()


def entries(*indices, term=1, commands=(b"x",)):
    return tuple(Entry(index, term, commands) for index in indices)


def crashed(path, directory):
    """A second store on the files as a killed process leaves them."""
    copy = str(Path(directory) / "copy.sqlite3")
    for suffix in ("", "-wal"):
        if Path(path + suffix).exists():
            shutil.copyfile(path + suffix, copy + suffix)
    return LogStore(copy, "FULL")


def statements_of(log, work):
    seen = []
    log._file.connection.set_trace_callback(seen.append)
    work()
    log._file.connection.set_trace_callback(None)
    return seen


def test_a_blank_log_restores_nothing(log):
    assert log.restore() == Restored()
    assert log.identity() == {}
    assert log.entry_bytes() == 0


def test_hazard_01_02_term_and_vote_are_there_after_a_crash(log, path, tmp_path):
    log.save(Ready(hard_state=HardState(7, -3), entries=entries(1, 2)))
    log.reset(9, 6)
    log.trim(10, 6, 100)
    again = crashed(path, tmp_path)
    assert again.restore() == Restored(HardState(7, -3), Position(10, 6))
    again.close()


def test_entries_are_upserted_and_a_cut_comes_first(log):
    log.save(Ready(entries=entries(1, 2, 3, 4, 5)))
    log.save(Ready(cut=3, entries=entries(3, term=2, commands=())))
    assert log.restore().entries == (*entries(1, 2), Entry(3, 2))
    log.save(Ready(cut=2))
    assert log.restore().entries == entries(1)


def test_gaps_and_any_order_are_kept_as_they_are(log):
    """Paxos fills slots out of order."""
    log.save(Ready(entries=entries(9, 4)))
    log.save(Ready(entries=entries(6, 4, term=3)))
    assert log.restore().entries == (Entry(4, 3, (b"x",)), Entry(6, 3, (b"x",)), Entry(9, 1, (b"x",)))


def test_commands_come_back_byte_for_byte(log):
    commands = (b"", bytes(range(256)), bytes(2_000_000))
    log.save(Ready(entries=(Entry(1, 1, commands),)))
    assert log.restore().entries[0].commands == commands


def test_a_save_of_entries_alone_is_one_statement(log):
    assert len(statements_of(log, lambda: log.save(Ready(entries=entries(*range(1, 65)))))) == 1
    assert len(statements_of(log, lambda: log.save(Ready(hard_state=HardState(1, 1))))) == 1


def test_many_entries_are_still_one_transaction(log, path, tmp_path):
    seen = statements_of(log, lambda: log.save(Ready(entries=entries(*range(1, 201)))))
    assert (seen[0], seen[-1], len(seen)) == ("BEGIN IMMEDIATE", "COMMIT", 6)
    assert len(log.restore().entries) == 200


def test_a_ready_without_anything_to_save_touches_nothing(log):
    assert statements_of(log, lambda: log.save(Ready(committed=entries(1)))) == []


def test_hazard_28_a_refused_save_leaves_nothing_and_succeeds_after_a_trim(log):
    """With a full disk a vote still fits where an entry does not (hazards.md §0.3)."""
    log.save(Ready(entries=entries(*range(1, 21), commands=(bytes(3000),))))
    (pages,) = log._file.connection.execute("PRAGMA page_count").fetchone()
    log._file.connection.execute(f"PRAGMA max_page_count = {pages}")
    before = log.restore()
    more = Ready(hard_state=HardState(2, 1), cut=20, entries=entries(20, 21, 22, term=2, commands=(bytes(3000),)))
    with pytest.raises(SaveRefused):
        log.save(more)
    assert log.restore() == before
    log.save(Ready(hard_state=HardState(3, 2)))
    assert log.trim(10, 1, 100)
    log.save(more)
    assert [entry.index for entry in log.restore().entries] == list(range(11, 23))


def test_a_trim_goes_in_slices_and_survives_a_crash_between_them(log, path, tmp_path):
    log.save(Ready(entries=entries(*range(1, 31))))
    assert not log.trim(20, 1, 8)
    halfway = crashed(path, tmp_path)
    assert halfway.restore() == Restored(HardState(), Position(20, 1), entries(*range(21, 31)))
    assert halfway.entry_bytes() == log.entry_bytes() < 10 * 20
    assert not halfway.trim(20, 1, 8)
    assert halfway.trim(20, 1, 8)
    assert halfway.trim(20, 1, 8)
    halfway.close()


def test_a_slice_of_large_entries_is_bounded_by_bytes(log):
    log.save(Ready(entries=entries(*range(1, 8), commands=(bytes(1_500_000),))))
    calls = 1
    while not log.trim(7, 1, 1000):
        calls += 1
    assert calls == 4


def test_a_trim_never_lowers_the_boundary(log):
    log.reset(10, 3)
    assert log.trim(5, 1, 100)
    assert log.restore().boundary == Position(10, 3)


def test_hazard_33_after_a_reset_the_log_begins_right_behind_the_snapshot(log):
    log.save(Ready(hard_state=HardState(4, 2), entries=entries(*range(1, 10))))
    log.reset(30, 4)
    assert log.restore() == Restored(HardState(4, 2), Position(30, 4))
    log.save(Ready(entries=entries(31, term=4)))
    assert log.restore().entries == entries(31, term=4)


def test_what_the_log_holds_is_told_by_index_and_term(log):
    log.save(Ready(entries=entries(1, 2, term=2)))
    assert log.holds(Position(0, 0)) and log.holds(Position(2, 2))
    assert not log.holds(Position(2, 1)) and not log.holds(Position(3, 2)) and not log.holds(Position(0, 1))


def test_facts_of_the_identity_are_added_and_replaced(log, path, tmp_path):
    log.bind({})
    log.bind({"node": "1", "cluster": "é\0x"})
    log.bind({"node": "2", "kind": "group"})
    again = crashed(path, tmp_path)
    assert again.identity() == {"node": "2", "cluster": "é\0x", "kind": "group"}
    again.close()


@pytest.mark.parametrize(
    ("sql", "complaint"),
    [
        ("UPDATE hard_state SET term = 6", "hard state"),
        ("DELETE FROM hard_state", "hard state"),
        ("UPDATE boundary SET idx = 1", "boundary"),
        ("UPDATE entries SET term = 9 WHERE idx = 2", "entry 2"),
        ("UPDATE entries SET idx = 7 WHERE idx = 2", "entry 7"),
        ("UPDATE entries SET entry = x'00' WHERE idx = 3", "entry 3"),
    ],
)
def test_hazard_34_a_fact_that_was_not_written_by_us_is_damage(path, sql, complaint):
    store = LogStore(path, "FULL")
    store.save(Ready(hard_state=HardState(5, 1), entries=entries(1, 2, 3)))
    store.close()
    connection = sqlite3.connect(path)
    connection.execute(sql)
    connection.commit()
    connection.close()
    store = LogStore(path, "FULL")
    with pytest.raises(Damaged, match=complaint):
        store.restore()
    assert len(store._file.connection.execute("SELECT idx FROM entries").fetchall()) == 3, "nothing was cut off"
    store.close()


def test_hazard_34_a_changed_identity_is_damage(log):
    log.bind({"node": "1"})
    log._file.connection.execute("UPDATE identity SET value = '2'")
    with pytest.raises(Damaged, match="node"):
        log.identity()


def test_hazard_34_a_flipped_bit_in_a_page_is_noticed(path):
    store = LogStore(path, "FULL")
    store.save(Ready(entries=entries(1, commands=(b"needle" * 40,))))
    store.close()
    content = bytearray(Path(path).read_bytes())
    content[content.index(b"needle") + 100] ^= 1
    Path(path).write_bytes(content)
    store = LogStore(path, "FULL")
    with pytest.raises(Damaged, match="checksum"):
        store.restore()
    store.close()


class LogTwin(RuleBasedStateMachine):
    """A store beside a dict, with crashes, orderly restarts and full disks between any two steps."""

    indices = st.integers(1, 30)

    @initialize()
    def begin(self):
        self.directory = tempfile.TemporaryDirectory()
        self.path = str(Path(self.directory.name) / "0.sqlite3")
        Path(self.path).write_bytes(image(LOG))
        self.log = LogStore(self.path, "OFF")
        self.hard_state, self.boundary, self.entries = HardState(), Position(), {}
        self.lives = 0

    def teardown(self):
        self.log.close()
        self.directory.cleanup()

    @rule(
        hard_state=st.none() | st.builds(HardState, st.integers(0, 9), st.integers(-3, 3)),
        cut=st.none() | indices,
        saved=st.dictionaries(indices, st.tuples(st.integers(1, 9), st.lists(st.binary(max_size=50), max_size=3))),
        full=st.booleans(),
    )
    def save(self, hard_state, cut, saved, full):
        made = tuple(Entry(index, term, tuple(commands)) for index, (term, commands) in saved.items())
        if full:
            (pages,) = self.log._file.connection.execute("PRAGMA page_count").fetchone()
            self.log._file.connection.execute(f"PRAGMA max_page_count = {pages}")
            made += (Entry(31, 1, (bytes(100_000),)),)
        try:
            self.log.save(Ready(hard_state=hard_state, cut=cut, entries=made))
        except SaveRefused:
            assert full
            return
        finally:
            self.log._file.connection.execute("PRAGMA max_page_count = 1000000")
        assert not full or len(self.entries) > 0
        self.hard_state = hard_state or self.hard_state
        if cut is not None:
            self.entries = {index: entry for index, entry in self.entries.items() if index < cut}
        self.entries |= {entry.index: entry for entry in made}

    @rule(index=indices, term=st.integers(1, 9), rows_max=st.integers(1, 5), slices=st.integers(1, 4))
    def trim(self, index, term, rows_max, slices):
        if index > self.boundary.index:
            self.boundary = Position(index, term)
        for _ in range(slices):
            self.log.trim(index, term, rows_max)

    @rule(index=indices, term=st.integers(1, 9))
    def reset(self, index, term):
        self.log.reset(index, term)
        self.boundary, self.entries = Position(index, term), {}

    @rule()
    def crash(self):
        self.lives += 1
        survivor = str(Path(self.directory.name) / f"{self.lives}.sqlite3")
        for suffix in ("", "-wal"):
            if Path(self.path + suffix).exists():
                shutil.copyfile(self.path + suffix, survivor + suffix)
        self.log.close()
        self.path = survivor
        self.log = LogStore(self.path, "OFF")

    @rule()
    def restart(self):
        self.log.close()
        self.log = LogStore(self.path, "OFF")

    @invariant()
    def restores_what_the_twin_has(self):
        above = tuple(entry for index, entry in sorted(self.entries.items()) if index > self.boundary.index)
        assert self.log.restore() == Restored(self.hard_state, self.boundary, above)


def test_hazard_30_the_log_is_as_its_twin_after_any_crash():
    run_state_machine_as_test(LogTwin, settings=settings(max_examples=40, stateful_step_count=20, deadline=None))

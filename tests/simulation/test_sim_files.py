"""What directories give back is compared with what was written, and each judge of it can fail."""

import pytest

from twisted_kv.consensus.types import Entry, HardState, Position, Ready, Restored
from twisted_kv.machines.rows import Row
from twisted_kv.simulation.judges.checkers import AS_WRITTEN, NOT_FORGOTTEN, ONE_WRITER
from twisted_kv.simulation.judges.files import Files, KeptLog, KeptRows
from twisted_kv.storage.directory import open_directory
from twisted_kv.storage.log_store import LogStore
from twisted_kv.storage.sqlite_file import _connect


class Judged:
    """Files of one member on a real directory, and what was found."""

    def __init__(self, path):
        self.path = str(path)
        self.wrong = []
        self.files = Files(lambda checker, text: self.wrong.append((checker, text)))

    def boot(self):
        """Open and read the log."""
        self.directory = open_directory(self.path, ballast_bytes=0)
        self.log = KeptLog(self.directory.log, self.directory.data, self.files, "a")
        self.log.restore()
        return self

    def reboot(self):
        self.directory.close()
        return self.boot()

    def save(self, first, last, term, cut=None):
        entries = tuple(Entry(index, term, (b"x",)) for index in range(first, last + 1))
        self.log.save(Ready(hard_state=HardState(term, 0), cut=cut, entries=entries))

    def rows(self, index, term, fresh=False):
        checkpoint = self.directory.data.checkpoint(fresh)
        checkpoint.write([Row(0, 1, "key", "k", str(index))])
        checkpoint.commit(index, term)

    @property
    def found(self):
        return {checker for checker, _ in self.wrong}


@pytest.fixture
def judged(tmp_path):
    judged = Judged(tmp_path).boot()
    yield judged
    judged.directory.close()


def test_what_was_saved_cut_and_trimmed_is_what_comes_back(judged):
    judged.save(1, 8, 1)
    judged.save(6, 7, 2, cut=6)
    judged.rows(5, 1)
    judged.log.trim(3, 1, 1)
    assert judged.reboot().found == set()
    judged.save(8, 9, 2)
    assert judged.reboot().found == set()


def test_a_start_between_the_halves_of_an_install_is_sound(judged):
    """Hazards 31 and 33: the log begins behind the rows, whatever it held."""
    judged.save(1, 8, 1)
    judged.rows(20, 2, fresh=True)
    judged.directory.log.save(Ready(hard_state=HardState(2, 0)))
    assert judged.reboot().found == set()
    judged.save(21, 22, 2)
    assert judged.reboot().found == set()


def test_entries_that_were_cut_and_stay_are_found(judged, monkeypatch):
    """Hazard 13."""
    save = LogStore.save
    monkeypatch.setattr(
        LogStore, "save", lambda self, ready: save(self, Ready(ready.hard_state, entries=ready.entries))
    )
    judged.save(1, 8, 1)
    judged.save(6, 6, 2, cut=6)
    assert judged.reboot().found == {AS_WRITTEN}


def test_a_log_that_ends_before_damage_is_found(judged):
    """Hazard 34."""
    judged.save(1, 8, 1)
    restored = judged.directory.log.restore()
    judged.files.restored("a", Restored(restored.hard_state, entries=restored.entries[:4]), Position())
    assert judged.found == {AS_WRITTEN}


def test_a_log_that_lacks_what_the_rows_stand_at_is_found(judged):
    """Hazards 31 and 33."""
    judged.save(1, 8, 1)
    judged.files.restored("a", judged.directory.log.restore(), Position(20, 2))
    assert judged.found == {AS_WRITTEN}


def test_a_log_that_begins_behind_the_rows_is_found(judged):
    judged.files.restored("a", Restored(HardState(), Position(9, 1)), Position(8, 1))
    assert AS_WRITTEN in judged.found


def test_entries_that_are_given_up_for_rows_are_found(judged):
    """Hazard 31: the log reached the rows, and what was acknowledged behind them is gone."""
    judged.save(1, 8, 1)
    judged.log.reset(8, 1)
    assert judged.found == set()
    judged.save(9, 12, 1)
    judged.log.reset(10, 1)
    assert judged.found == {NOT_FORGOTTEN}


def test_entries_that_contradict_rows_are_given_up(judged):
    judged.save(1, 8, 1)
    judged.log.save(Ready(hard_state=HardState(2, 0)))
    judged.rows(7, 2, fresh=True)
    judged.log.reset(7, 2)
    assert judged.reboot().found == set()


def test_a_wiped_directory_is_forgotten(judged):
    judged.save(1, 8, 1)
    judged.files.forgotten("a")
    judged.files.restored("a", Restored(), Position())
    assert judged.found == set()


# ── rows ───────────────────────────────────────────────────────────────────────────────────────────


class Machine:
    """As much of a machine as is looked at."""

    state = 0

    def clear(self):
        self.state = 0

    def take_changes(self):
        return []

    def digest(self):
        return self.state


def kept(judged, machine, name="a"):
    rows = KeptRows(machine, judged.directory.data.position, judged.files, 7, name)
    return rows.machine, rows.watched(judged.directory.data)


def load(machine, state):
    machine.clear()
    machine._machine.state = state
    machine.take_changes()


def commit(machine, store, index, state):
    machine._machine.state = state
    machine.take_changes()
    checkpoint = store.checkpoint()
    machine._machine.state += 1  # it goes on while rows are written
    checkpoint.commit(index, 1)


def test_rows_make_the_state_that_was_written(judged):
    machine, store = kept(judged, Machine())
    commit(machine, store, 5, 50)
    load(machine, 50)
    assert judged.found == set()


def test_rows_that_make_another_state_are_found(judged):
    """Hazards 18, 28 and 32."""
    machine, store = kept(judged, Machine())
    commit(machine, store, 5, 50)
    load(machine, 49)
    assert judged.found == {AS_WRITTEN}


def test_rows_of_a_peer_are_compared_with_what_the_peer_wrote(judged):
    """Hazard 31."""
    machine, store = kept(judged, Machine(), "giver")
    commit(machine, store, 5, 50)
    taker, _ = kept(judged, Machine(), "taker")
    load(taker, 51)
    assert judged.found == {AS_WRITTEN}
    assert "taker" in judged.wrong[0][1]
    assert "giver" in judged.wrong[0][1]


def test_a_checkpoint_that_was_refused_says_nothing(judged):
    machine, store = kept(judged, Machine())
    machine._machine.state = 40
    machine.take_changes()
    store.checkpoint().abort()
    commit(machine, store, 5, 50)
    load(machine, 50)
    assert judged.found == set()


def test_a_connection_that_reads_cannot_write(judged, monkeypatch):
    """Hazard 36."""
    _, store = kept(judged, Machine())
    snapshot = store.snapshot()
    assert (judged.found, snapshot.index) == (set(), 0)
    assert snapshot.rows(None, 1000) == []
    snapshot.close()
    monkeypatch.setattr("twisted_kv.storage.data_store.open_reader", lambda path: _connect(path, "rw"))
    store.snapshot().close()
    assert judged.found == {ONE_WRITER}

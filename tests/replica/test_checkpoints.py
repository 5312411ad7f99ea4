"""A checkpoint writes what changed, as it stood at one index, in slices; a full disk keeps it for the next one."""

import pytest
from replica_stage import InlineDisk
from twisted.internet.task import Clock

from twisted_kv.consensus.types import Entry, HardState, Ready
from twisted_kv.interfaces import SaveRefused
from twisted_kv.machines.rows import ChangedRows, Changes
from twisted_kv.replica.checkpoints import SLICE_ROWS, Checkpoints, merged, slices
from twisted_kv.storage.directory import open_directory


class Map:
    """A machine that is a dict."""

    def __init__(self):
        self.rows = {}
        self.changed = {}

    def put(self, name, value):
        self.changed[0, 1, "key", name] = value

    def take_changes(self):
        changed, self.changed = self.changed, {}
        return Changes([], ChangedRows.of(changed))


class Scene:
    def __init__(self, path):
        self.directory = open_directory(str(path), synchronous="OFF", ballast_bytes=0)
        self.clock = Clock()
        self.machine = Map()
        self.compacted = []
        self.failures = []
        self.data = self.directory.data
        self.checkpoints = self.make()

    def make(self, log_bytes_max=1):
        return Checkpoints(
            7,
            None,
            self.machine,
            self.directory.log,
            self.data,
            InlineDisk(),
            InlineDisk(),
            None,
            self.clock,
            log_bytes_max,
            self.compacted.append,
            self.failures.append,
        )

    def apply(self, index, size=1, **rows):
        for name, value in rows.items():
            self.machine.put(name, value)
        entry = Entry(index, 1, (b"c" * size,))
        self.directory.log.save(Ready(hard_state=HardState(1, 1), entries=(entry,)))
        self.checkpoints.applied((entry,))

    def turns(self, count=50):
        for _ in range(count):
            self.clock.advance(0)

    def on_disk(self):
        return {row.name: row.value for row in self.data.rows(None, 1 << 20)}


@pytest.fixture
def scene(tmp_path):
    made = Scene(tmp_path / "d")
    yield made
    made.directory.close()


def test_what_changed_later_does_not_show(scene):
    """House.md: the rows as they stood at one index, however many turns the writing takes."""
    scene.apply(1, a="1", **{f"k{place}": "x" for place in range(3 * SLICE_ROWS)})
    scene.machine.put("a", "2")
    scene.turns()
    assert scene.data.position() == (1, 1)
    assert scene.on_disk()["a"] == "1"


def test_slices_have_turns_between_them(scene):
    """No slice holds the reactor for all of it."""
    scene.apply(1, **{f"k{place}": "x" for place in range(4 * SLICE_ROWS)})
    assert scene.checkpoints.busy
    assert len(scene.clock.getDelayedCalls()) == 1
    assert scene.data.position() == (0, 0)
    scene.turns()
    assert scene.data.position() == (1, 1)


def test_log_is_cut_only_behind_the_checkpoint_before(scene):
    scene.checkpoints = scene.make(log_bytes_max=20)
    for index in range(1, 6):
        scene.apply(index, a=str(index))
        scene.turns()
    assert scene.data.position() == (5, 1)
    assert scene.compacted == [1, 2, 3, 4]
    assert [entry.index for entry in scene.directory.log.restore().entries] == [5]


def test_a_large_entry_is_not_kept_for_followers(scene):
    """Decision 0004: however large one entry is, what stays in a quiet log is bounded by log_bytes_max."""
    scene.checkpoints = scene.make(log_bytes_max=100)
    for index, size in ((1, 200), (2, 1600), (3, 40)):
        scene.apply(index, size=size, a="x")
        scene.turns()
    assert scene.data.position() == (2, 1)
    assert [entry.index for entry in scene.directory.log.restore().entries] == [3]


def test_never_means_never(scene):
    scene.checkpoints = scene.make(log_bytes_max=-1)
    scene.apply(1, a="1")
    scene.turns()
    assert scene.data.position() == (0, 0)


class Full:
    """A data store whose disk is full."""

    def __init__(self, store):
        self.store = store
        self.full = True

    def __getattr__(self, name):
        return getattr(self.store, name)

    def checkpoint(self, fresh=False):
        opened = self.store.checkpoint(fresh)
        if self.full:
            opened.abort()
            raise SaveRefused
        return opened


def test_hazard_28_refused_checkpoint_is_written_by_the_next(scene, logged_errors):
    """Nothing of it is lost, and the replica goes on."""
    scene.data = Full(scene.directory.data)
    scene.checkpoints = scene.make()
    scene.apply(1, a="1", b="1")
    scene.turns()
    assert scene.failures == []
    scene.data.full = False
    scene.apply(2, b="2")
    scene.turns()
    assert scene.on_disk() == {"a": "1", "b": "2"}
    assert scene.data.position() == (2, 1)


def test_hazard_27_failed_checkpoint_stops_the_replica(scene):
    class Broken(Full):
        def checkpoint(self, fresh=False):
            raise OSError(5, "EIO")

    scene.data = Broken(scene.directory.data)
    scene.checkpoints = scene.make()
    scene.apply(1, a="1")
    scene.turns()
    assert isinstance(scene.failures[0].value, OSError)


def test_make_room_cuts_all_that_is_covered(scene):
    scene.checkpoints = scene.make(log_bytes_max=1 << 20)
    for index in range(1, 6):
        scene.apply(index, a=str(index))
    done = scene.checkpoints.make_room()
    scene.turns()
    assert done.called
    assert scene.directory.log.restore().entries == ()


def test_merged_keeps_the_newer_and_drops_with_the_copy():
    old = {(1, 1, "key", "a"): "old", (1, 1, "key", "b"): "old", (2, 1, "key", "c"): "old", (3, 1, "key", "d"): "old"}
    older = Changes([], ChangedRows.of(old))
    newer = Changes([(2, 1)], ChangedRows.of({(1, 1, "key", "a"): "new"}))
    both = merged(older, newer)
    assert both.dropped == [(2, 1)]
    assert both.rows == {(1, 1, "key", "a"): "new", (1, 1, "key", "b"): "old", (3, 1, "key", "d"): "old"}


def test_slices_hold_every_row_once():
    names = [(place % 3, 1, "key", str(place)) for place in range(2 * SLICE_ROWS)]
    pieces = list(slices(Changes([], ChangedRows.of(dict.fromkeys(names, "x" * 300)))))
    assert [(row.shard, row.num, row.space, row.name) for rows in pieces for row in rows] == sorted(names)
    assert max(map(len, pieces)) <= SLICE_ROWS


def test_what_was_written_last_is_told(scene):
    """Rows follow what has changed, not what there is."""
    scene.apply(1, **{f"k{place}": "x" for place in range(3 * SLICE_ROWS)})
    scene.turns()
    assert scene.checkpoints.status()["checkpoint_rows"] == 3 * SLICE_ROWS
    scene.apply(2, k1="y", k2="y")
    scene.turns()
    assert scene.checkpoints.status() == {
        "checkpoints": 2,
        "checkpoint_rows": 2,
        "checkpoint_ms": 0.0,
        "fetched_bytes": 0,
    }

"""The simulated disk: slow, in order, failing before or after, and gone with its host."""

import sqlite3

from twisted_kv.interfaces import SaveRefused
from twisted_kv.simulation.doors.disk import NO_TIME, SimDisk
from twisted_kv.simulation.doors.world import World


class Place:
    def __init__(self, seconds=(0.001, 0.005)):
        self.world = World(1)
        self.host = self.world.host("h")
        self.disk = SimDisk(self.host, self.world.random_for("disk"), seconds)
        self.written, self.told = [], []

    def write(self, what):
        work = self.disk.run(lambda: self.written.append(what) or what)
        work.addBoth(lambda result: self.told.append(result))


def test_work_takes_time_and_keeps_its_order():
    place = Place()
    for number in range(20):
        place.write(number)
    assert not place.written
    place.world.run_for(1)
    assert place.told == place.written == list(range(20))
    assert place.disk.run(lambda: 1 / 0).addErrback(lambda failure: failure.trap(ZeroDivisionError)) is not None
    place.world.run_for(1)


def test_no_time_means_done_before_run_returns():
    place = Place(NO_TIME)
    place.write("a")
    assert place.told == ["a"]


def test_work_asked_for_in_a_callback_waits_its_turn():
    place = Place(NO_TIME)
    place.disk.stalled = True
    place.disk.run(lambda: place.written.append("first")).addCallback(lambda _: place.write("third"))
    place.write("second")
    place.disk.resume()
    assert place.written == ["first", "second", "third"]


def test_a_commit_can_be_durable_though_nobody_is_told():
    """Hazard 27: a crash between the commit and its answer."""
    outcomes = set()
    for moment in range(1, 40):
        place = Place((0.004, 0.004))
        place.write("a")
        place.world.run_for(moment / 10_000)
        place.host.clock.stop()
        place.world.run_for(1)
        outcomes.add((bool(place.written), bool(place.told)))
    assert outcomes == {(False, False), (True, False)}


def test_a_crash_loses_the_work_still_waiting():
    place = Place()
    for number in range(5):
        place.write(number)
    place.world.run_until(lambda: len(place.told) == 2, 1)
    place.host.clock.stop()
    place.world.run_for(1)
    assert len(place.written) <= 3


def test_a_failure_can_come_before_or_after_the_work_was_done():
    """Hazard 27, §0.2: a failed commit can come back from the dead."""
    before, after = Place(), Place()
    before.disk.fails_before = after.disk.fails_after = 1.0
    for place in (before, after):
        place.write("a")
        place.world.run_for(1)
        assert place.told[0].check(sqlite3.OperationalError)
    assert (before.written, after.written) == ([], ["a"])


def test_a_full_disk_refuses_and_has_room_again():
    """Hazard 28."""
    place = Place()
    place.disk.full = True
    place.write("a")
    place.world.run_for(1)
    place.disk.full = False
    place.write("b")
    place.world.run_for(1)
    assert place.told[0].check(SaveRefused)
    assert place.written == ["b"]


def test_a_stalled_disk_carries_out_nothing_until_it_resumes():
    """Hazard 7: also what it had already begun."""
    place = Place((0.002, 0.002))
    place.write("a")
    place.disk.stalled = True
    place.write("b")
    place.world.run_for(60)
    assert not place.written
    place.disk.resume()
    place.world.run_for(1)
    assert place.told == ["a", "b"]


def test_a_trap_springs_right_before_the_commit_or_before_its_answer():
    """Hazards §0.5: crashes at the worst moments find what random ones miss."""
    for seconds in ((0.001, 0.005), NO_TIME):
        for moment, written in (("trap_before", []), ("trap_after", ["a"])):
            place = Place(seconds)
            setattr(place.disk, moment, place.host.clock.stop)
            place.write("a")
            place.write("b")
            place.world.run_for(1)
            assert (place.written, place.told) == (written, [])


def test_closing_waits_for_what_was_given_and_never_fails():
    """It reads and writes nothing: found by simulation, plan everything, seed 30."""
    for spoil in ("full", "fails_before", "fails_after"):
        place = Place()
        place.write("a")
        setattr(place.disk, spoil, True)
        place.disk.close().addBoth(place.told.append)
        place.world.run_for(1)
        assert place.told[1:] == [None]


def test_whoever_asks_is_told_what_was_refused_and_what_was_betrayed():
    for spoil, hook in (("full", "refused"), ("fails_after", "betrayed")):
        place = Place()
        seen = []
        setattr(place.disk, hook, seen.append)
        setattr(place.disk, spoil, True)
        work = list
        place.disk.run(work).addErrback(lambda failure: None)
        place.world.run_for(1)
        assert seen == [work]

import threading

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from twisted_kv.storage.disk import PROBES, InlineDisk, ThreadDisk, choose_disk, disk_for_bulk, fsync_seconds


class FakeClock:
    """Every look at it is a step later."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def seconds(self):
        self.now += self.step
        return self.now


def test_the_inline_disk_has_run_the_work_when_it_returns():
    disk, got = InlineDisk(), []
    disk.run(lambda: 7).addCallback(got.append)
    disk.run(lambda: 1 / 0).addErrback(lambda failure: got.append(failure.type))
    disk.close().addCallback(got.append)
    assert got == [7, ZeroDivisionError, None]


@pytest_twisted.ensureDeferred
async def test_the_thread_disk_keeps_the_order_in_one_other_thread():
    disk, order = ThreadDisk(reactor), []
    gate, answered = threading.Event(), Deferred()

    def work(number):
        gate.wait(5)
        order.append((number, threading.get_ident()))
        return number

    results = gatherResults([disk.run(lambda number=number: work(number)) for number in range(20)])
    results.addCallback(lambda numbers: answered.callback((numbers, threading.get_ident())))
    assert order == []
    gate.set()
    numbers, thread = await answered.addTimeout(5, reactor)
    assert numbers == [number for number, _ in order] == list(range(20))
    assert {ident for _, ident in order} - {thread} == {order[0][1]}
    await disk.close().addTimeout(5, reactor)


@pytest_twisted.ensureDeferred
async def test_the_thread_disk_fails_as_the_work_fails():
    disk = ThreadDisk(reactor)
    with pytest.raises(ZeroDivisionError):
        await disk.run(lambda: 1 / 0).addTimeout(5, reactor)
    await disk.close().addTimeout(5, reactor)


@pytest_twisted.ensureDeferred
async def test_closing_the_thread_disk_waits_for_what_was_given():
    disk, done = ThreadDisk(reactor), []
    gate = threading.Event()
    disk.run(lambda: (gate.wait(5), done.append(1)))
    closed = disk.close()
    assert not closed.called
    gate.set()
    await closed.addTimeout(5, reactor)
    assert done == [1]
    assert not any("twisted-kv disk" in thread.name for thread in threading.enumerate())
    with pytest.raises(AssertionError):
        disk.run(lambda: None)


def test_a_thread_disk_that_was_never_used_has_no_thread_to_end():
    """Contract §1: a server that is refused at start ends, though no reactor runs that could end a thread."""
    disk, closed = ThreadDisk(reactor=None), []
    disk.close().addCallback(closed.append)
    assert closed == [None]
    assert not any("twisted-kv disk" in thread.name for thread in threading.enumerate())


def test_the_probe_takes_the_median_and_leaves_nothing(tmp_path):
    clock = FakeClock(0.001)
    assert fsync_seconds(str(tmp_path), clock.seconds) == pytest.approx(0.001)
    assert clock.now == pytest.approx(2 * PROBES * 0.001)
    assert list(tmp_path.iterdir()) == []


def test_a_very_slow_disk_is_not_probed_for_long(tmp_path):
    clock = FakeClock(0.2)
    assert fsync_seconds(str(tmp_path), clock.seconds) == pytest.approx(0.2)
    assert clock.now < 1.5


def test_the_disk_is_chosen_by_its_fsync(tmp_path):
    class Reactor(FakeClock):
        callFromThread = reactor.callFromThread

    assert isinstance(choose_disk(str(tmp_path), Reactor(0.0014)), InlineDisk)
    assert isinstance(choose_disk(str(tmp_path), Reactor(0.0016)), ThreadDisk)


def test_bulk_has_a_thread_on_any_disk():
    """The commit of many rows may take a second; a test's clock takes no calls from threads."""
    assert isinstance(disk_for_bulk(reactor), ThreadDisk)
    assert isinstance(disk_for_bulk(FakeClock(1.0)), InlineDisk)

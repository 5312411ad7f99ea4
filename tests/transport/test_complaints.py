"""A bounded log of what others do wrong."""

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from twisted_kv.transport.complaints import SHOWN_MAX, Complaints, shown


def test_a_flood_of_complaints_leaves_few_lines_and_a_count():
    """Hazards S13: 100,000 bad calls, a bounded log, and the next line says how many were left out."""
    clock, events = Clock(), []
    complaints = Complaints(clock, burst=10, per_second=0.5)
    globalLogPublisher.addObserver(events.append)
    try:
        for _ in range(100_000):
            complaints.warn("bad call")
        assert len(events) == 10
        clock.advance(2.0)
        complaints.warn("bad call")
        complaints.failure("a bug", Failure(ValueError()))
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert [event["suppressed"] for event in events[10:]] == [99_990]


def test_a_clock_set_back_does_not_silence_the_log_for_ever():
    """Hazards §0.1: reactor time may jump."""
    clock = Clock()
    clock.rightNow = 1_000_000.0
    complaints = Complaints(clock, burst=1, per_second=1.0)
    complaints.warn("one")
    clock.rightNow = 0.0
    complaints.warn("two")
    clock.advance(1.0)
    events = []
    globalLogPublisher.addObserver(events.append)
    complaints.warn("three")
    globalLogPublisher.removeObserver(events.append)
    assert len(events) == 1


def test_names_from_outside_are_escaped_and_cut_short():
    """Hazards S13: no newlines, no terminal escapes, no megabytes in the log."""
    assert shown(b"a\nb\x1b[2J\xff") == "a\\nb\\x1b[2J\\xff"
    assert len(shown("x" * 10_000)) == SHOWN_MAX + 1

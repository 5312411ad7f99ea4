"""The judgement of all nodes together, each invariant broken by hand."""

from __future__ import annotations

from twisted_kv.consensus.types import Entry, HardState, Position
from twisted_kv.simulation.explorer.node import Disk, View
from twisted_kv.simulation.explorer.past import Led, Past, broken_by, durable, grown, lost, unlike

ONE, TWO = Entry(1, 1), Entry(2, 1, (b"1",))
START = Position()


def view(*entries: Entry, leads: bool = False, term: int = 1, commit: int = 0, boundary: Position = START) -> View:
    return View(leads, term, commit, boundary, entries)


def test_election_safety() -> None:
    past, wrong = grown(Past(), 1, view(leads=True), 0, ())
    assert past.led == (Led(1, 1),) and wrong == ""
    assert grown(past, 1, view(leads=True), 0, ()) == (past, "")
    assert grown(past, 2, view(leads=True), 0, ())[1].startswith("election safety: 1 and 2 both led term 1")


def test_what_is_committed_is_remembered() -> None:
    past, wrong = grown(Past(), 1, view(ONE, TWO, term=3, commit=2), 2, ())
    assert (past.committed, past.since, past.floor, wrong) == ((ONE, TWO), (3, 3), 2, "")
    assert grown(past, 2, view(ONE, commit=3), 0, ())[1].startswith("state machine safety: ")


def test_state_machine_safety() -> None:
    past = Past(committed=(ONE, TWO), since=(1, 1))
    assert broken_by(past, 2, view(ONE, TWO, commit=2)) == ""
    assert broken_by(past, 2, view(ONE, Entry(2, 2), commit=1)) == ""
    assert broken_by(past, 2, view(ONE, Entry(2, 2), commit=2)).startswith("state machine safety: ")
    assert broken_by(past, 2, view(boundary=Position(2, 1), commit=2)) == ""
    assert broken_by(past, 2, view(boundary=Position(2, 2), commit=2)).startswith("state machine safety: ")


def test_leader_completeness() -> None:
    past = Past(committed=(ONE, TWO), since=(1, 3))
    assert broken_by(past, 2, view(ONE, leads=True, term=2)) == ""
    assert broken_by(past, 2, view(ONE, leads=True, term=3)).startswith("leader completeness: 2 leads term 3")
    assert broken_by(past, 2, view(ONE, TWO, leads=True, term=3)) == ""


def test_log_matching() -> None:
    assert not unlike(view(ONE, TWO), view(ONE))
    assert not unlike(view(ONE, Entry(2, 2)), view(ONE, TWO))
    assert unlike(view(ONE, TWO), view(ONE, Entry(2, 1, (b"2",))))
    assert unlike(view(ONE, Entry(2, 3)), view(Entry(1, 2), Entry(2, 3)))


def test_committed_never_lost() -> None:
    past = Past(committed=(ONE, TWO), since=(1, 1))
    lengths = [durable(past, disk) for disk in (Disk(entries=(ONE, TWO)), Disk(HardState(), Position(2, 1)), Disk())]
    assert lengths == [2, 2, 0]
    assert lost(past, lengths) == ""
    assert lost(past, [2, 1, 0]).startswith("committed never lost: 2/1")


def test_reads() -> None:
    """A read shows what was acknowledged, or read, before it began."""
    past = Past(floor=2, reads=((1, 2), (2, 0)))
    later, wrong = grown(past, 1, view(), 0, ((1, 3),))
    assert wrong == "" and later.floor == 3 and later.reads == ((2, 0),)
    assert grown(past, 1, view(), 0, ((1, 1),))[1].startswith("read linearizability: ")

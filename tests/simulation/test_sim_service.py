"""What members owe while faults last: judges that speak when it is broken, and of nothing else."""

import pytest
from planted_service import PLANTED, Corridor, FailingDisk, Serving, forwarded, save

from twisted_kv.interfaces import LostAnswer, NotSent, SaveRefused
from twisted_kv.simulation.judges import checkers
from twisted_kv.simulation.judges.service import SavingDisk, ended
from twisted_kv.transport.wire import NotLeading, Unsettled


@pytest.mark.parametrize("checker", PLANTED)
def test_each_speaks_when_its_promise_is_broken(checker, monkeypatch):
    assert {violation.checker for violation in PLANTED[checker](monkeypatch)} == {checker}


def test_a_leader_that_is_answered_may_lead_for_ever():
    serving = Serving().lead()
    serving.tick(100, answers=True)
    assert serving.node.status().role.value == "leader"
    assert not serving.found


def test_a_leader_that_nobody_answers_steps_down_in_time():
    """Hazard 7."""
    serving = Serving().lead()
    serving.corridor.leads = False
    serving.tick(100)
    assert serving.node.status().role.value != "leader"
    assert not serving.found


def test_a_member_that_hears_nobody_asks_and_keeps_its_term():
    """Hazard 8."""
    serving = Serving(Corridor(leads=False))
    assert not serving.tick(100).found
    assert serving.node.status().term == 1


def test_calls_wait_at_who_leads_and_for_a_while_at_who_does_no_longer():
    """Hazard 15."""
    serving = Serving(Corridor(commands=1)).lead()
    assert not serving.tick(50, answers=True).found
    serving = Serving(Corridor(leads=False, commands=1))
    assert not serving.tick(20).found
    assert {violation.checker for violation in serving.tick(10).found} == {checkers.WAITS}


def test_calls_wait_at_no_leader_whose_disk_hangs():
    serving = Serving().lead()
    serving.node.propose(b"x")
    serving.drain(finish=False)
    serving.corridor = Corridor(leads=False, reads=1)
    found = serving.tick(60, answers=True).found
    assert {violation.checker for violation in found} == {checkers.WAITS}


@pytest.mark.parametrize("corridor", [None, Corridor(commands=3), Corridor(stopped=True)])
def test_a_process_may_end_in_the_middle_and_may_not_stop_so(corridor):
    found = []
    ended(corridor, lambda *what: found.append(what), "g1-1")
    assert not found


def test_a_full_disk_has_not_saved_and_other_work_is_no_save():
    """Hazard 28."""
    found = []
    refusing = SavingDisk(FailingDisk(SaveRefused("full")), lambda *what: found.append(what), "g1-1")
    failing = SavingDisk(FailingDisk(OSError("no")), lambda *what: found.append(what), "g1-1")
    for disk, work in ((refusing, save), (refusing, save), (failing, len), (failing, save), (failing, len)):
        disk.run(work).addErrback(lambda failure: None)
    assert not found
    assert refusing.close().called


@pytest.mark.parametrize(
    ("error", "answer", "losses"),
    [
        (LostAnswer("late"), Unsettled(1, 2), 1),
        (NotSent("refused"), NotLeading(1, 2), 0),
    ],
)
def test_what_was_passed_on_and_lost_is_unknown_and_what_was_not_sent_is_not(error, answer, losses):
    """Hazard 40."""
    found, lost = forwarded(error, answer)
    assert not found
    assert len(lost) == losses

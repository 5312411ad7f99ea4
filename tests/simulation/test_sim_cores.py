"""Lives of cores alone: sound cores live them well, worse ones do not, and everything is drawn from the seed."""

from __future__ import annotations

import pytest

from twisted_kv.consensus.raft import election
from twisted_kv.consensus.raft.dispatch import EVENTS
from twisted_kv.consensus.raft.state import State
from twisted_kv.consensus.types import SnapshotFailed, SnapshotInstalled, TransferLeadership
from twisted_kv.simulation.doors.rare import RARE
from twisted_kv.simulation.doors.world import Event, World
from twisted_kv.simulation.judges import checkers
from twisted_kv.simulation.lives import cores
from twisted_kv.simulation.lives.cores import CORES, ENDINGS, CorePlan, draw_setting, live_cores
from twisted_kv.simulation.lives.reports import VOID, Report
from twisted_kv.simulation.lives.tally import Tally
from twisted_kv.simulation.small.group import SmallGroup

SHORT = CorePlan("cores", turns=(200,), times=(1,))


def first_wrong(seeds: range, plan: CorePlan = SHORT) -> Report:
    """The first of these lives that is not ok."""
    return next(report for report in (live_cores(seed, plan) for seed in seeds) if report.violations)


@pytest.mark.parametrize("seed", range(1, 9))
def test_sound_cores_live_well(seed: int) -> None:
    report = live_cores(seed, CORES)
    assert report.violations == (), report
    assert report.figures["calls"] > 0 and report.figures["committed"] > 0


def test_a_seed_is_a_life() -> None:
    told: list[Event] = []
    one, two = live_cores(3, SHORT, told.append), live_cores(3, SHORT)
    assert one.digest == two.digest != live_cores(4, SHORT, told.append).digest
    assert len(told) > 1000 and {"takes", "dies", "boots"} <= {event.what for event in told}


def test_every_setting_and_ending_is_drawn() -> None:
    settings = [draw_setting(World(seed).random_for("shape"), CORES) for seed in range(80)]
    assert {ending for setting in settings for ending in setting.endings} == set(ENDINGS)
    assert {setting.size for setting in settings} == {3, 5}
    assert {setting.lag for setting in settings} == {True, False}
    assert len({setting.settings for setting in settings}) > 40


def test_rare_events_are_seen_and_counted() -> None:
    tally = Tally()
    for seed in range(1, 7):
        tally.count(live_cores(seed, CORES))
    assert tally.total.calls > 500 and tally.total.faults > 50
    assert len(tally.rare) >= 15 and set(tally.rare) <= set(RARE)


def test_a_life_in_which_nothing_was_done_is_void(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "COMMANDS_MIN", 1 << 30)
    report = live_cores(1, SHORT)
    assert report.verdict == VOID and "answered" in report.void
    monkeypatch.setattr(cores, "COMMANDS_MIN", 0)
    monkeypatch.setattr(cores, "ELECTIONS_MIN", 1 << 30)
    assert "elections" in live_cores(1, SHORT).void


def test_an_older_log_that_is_elected_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hazard 4."""
    monkeypatch.setattr(election, "is_up_to_date", lambda state, last_index, last_term: last_index >= state.log.last)
    report = first_wrong(range(1, 60), CORES)
    assert report.violations[0].checker in (checkers.COMPLETE, checkers.KEPT, checkers.ONE_ORDER)
    assert "--plan cores --trace" in str(report) and len(report.story) <= 40


def test_rows_that_are_offered_once_are_found_in_the_calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hazard 31: what nothing unsafe tells, the calm does."""

    def failed(state: State, event: object) -> None:
        state.fetch = None

    monkeypatch.setitem(EVENTS, SnapshotFailed, failed)
    assert first_wrong(range(1, 60)).violations[0].checker == checkers.SETTLES


def test_timers_that_are_alike_are_found_when_all_goes_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def alike(state: State) -> None:
        state.elapsed, state.timeout = 0, state.settings.election_ticks

    monkeypatch.setattr(State, "restart_timer", alike)
    assert first_wrong(range(1, 40)).violations[0].checker == checkers.SETTLES


def test_leaders_that_do_not_stay_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The calm is watched for a while after all is well."""
    honest = SmallGroup.pass_turn

    def restless(group: SmallGroup) -> None:
        honest(group)
        if group.turn > 200 and group.turn % 20 == 0 and group.leaders:
            group.leaders[0].step(TransferLeadership())

    monkeypatch.setattr(SmallGroup, "pass_turn", restless)
    found = {violation.checker for seed in range(1, 7) for violation in live_cores(seed, SHORT).violations}
    assert checkers.ONE_ELECTION in found and found <= {checkers.ONE_ELECTION, checkers.SETTLES, checkers.CALLS}


def test_a_core_that_fails_is_told_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(state: State, event: object) -> None:
        raise ValueError("no such thing")

    monkeypatch.setitem(EVENTS, SnapshotInstalled, broken)
    report = first_wrong(range(1, 20), CORES)
    assert report.violations[0].checker == checkers.BROKEN and "no such thing" in report.violations[0].text

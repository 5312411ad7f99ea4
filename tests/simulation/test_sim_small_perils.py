"""What goes wrong is drawn from the seed, is wide enough, and ends."""

from __future__ import annotations

from collections import Counter

import pytest

from twisted_kv.consensus.raft.state import RaftSettings
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.faults.moments import MOMENTS
from twisted_kv.simulation.small import perils
from twisted_kv.simulation.small.group import Setting, SmallGroup
from twisted_kv.simulation.small.perils import (
    CHECKPOINT_MOMENTS,
    CLOCKS,
    DEATHS,
    DISKS,
    LINKS,
    TRICKS,
    Perils,
)


def group(seed: int, size: int = 3) -> SmallGroup:
    made = SmallGroup(World(seed), Setting(size, RaftSettings(election_ticks=5), 0.7, False, 0, ()))
    made.boot_all()
    return made


def suffered(seed: int, turns: int, size: int = 3) -> tuple[SmallGroup, Perils]:
    made = group(seed, size)
    wrong = Perils(made)
    for _ in range(turns):
        wrong.turn()
        made.pass_turn()
    assert made.violations == ()
    return made, wrong


def test_moments_have_names_that_somebody_announces() -> None:
    assert set(CHECKPOINT_MOMENTS) <= set(MOMENTS)


def test_every_way_of_going_wrong_is_drawn() -> None:
    told: Counter[str] = Counter()
    for seed in range(1, 13):
        made, wrong = suffered(seed, 300, 3 + 2 * (seed % 2))
        assert wrong.count > 0
        for event in made.world.trace.story:
            if event.actor == "run":
                told.update(event.what.split(", "))
    assert set(LINKS) <= set(told)
    for prefix, names in (("clocks", CLOCKS), ("saves", DISKS), ("deaths", DEATHS)):
        assert {f"{prefix} {name}" for name in names} <= set(told) | {"deaths all"}
    assert set(TRICKS) - {"none"} <= set(told)


def test_the_same_seed_suffers_the_same() -> None:
    assert suffered(4, 150)[0].world.trace.digest() == suffered(4, 150)[0].world.trace.digest()


def test_nothing_is_wrong_where_a_life_does_without_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perils, "chance", lambda random, share: share == 0.4)
    made, wrong = suffered(2, 200)
    assert made.deaths == 0 and wrong.count == 0 and made.judge.done > 100

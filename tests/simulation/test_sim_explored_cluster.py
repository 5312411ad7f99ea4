"""The model of three cores: names do not matter, covering loses nothing, budgets bound, small worlds come to an end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from random import Random

import pytest

from twisted_kv.simulation.explorer.cluster import KINDS, Cluster
from twisted_kv.simulation.explorer.cores import RaftCore
from twisted_kv.simulation.explorer.engine import exhaust, explore, walk
from twisted_kv.simulation.explorer.run import PLANS


def walked(model: Cluster, seed: int, depth: int) -> bytes:
    """A state at the end of a random walk."""
    random, state = Random(seed), model.initial()
    for _ in range(depth):
        choices = [after for _, after in model.steps(state)]
        if choices:
            state = choices[int(random.random() * len(choices))]
    return state


@pytest.mark.parametrize("seed", range(12))
def test_equal_states_have_equal_successors(seed: int) -> None:
    """Exchanging names and taking a step come to the same in either order: symmetry is one, on states that occur."""
    budgets = dict.fromkeys(KINDS, 1) | {"elections": 2, "proposals": 2}
    model = Cluster(RaftCore(), budgets)
    for depth in (2, 6, 12, 25):
        state = walked(model, seed, depth)
        following = {model.canonical(after) for _, after in model.steps(state)}
        for other in model.equals(state):
            assert model.canonical(other) == model.canonical(state)
            assert {model.canonical(after) for _, after in model.steps(other)} == following


class Visited(Cluster):
    """Remembers what the nodes were in every state that was judged."""

    def __init__(self, budgets: Mapping[str, int]) -> None:
        super().__init__(RaftCore(), budgets)
        self.judged: set[tuple[object, ...]] = set()

    def broken(self, state: bytes) -> str:
        self.judged.add((self.nodes(state), self.past(state)))
        return super().broken(state)


@pytest.mark.parametrize("budgets", [{"elections": 1, "crashes": 1}, {"elections": 1, "stalls": 1}])
def test_covering_loses_nothing(budgets: Mapping[str, int]) -> None:
    """What the nodes can come to is the same, whether covered states are left out or not; up to names."""
    whole, covering = Visited(budgets), Visited(budgets)
    visited = explore(whole, clock=time.process_time)
    left = exhaust(covering, clock=time.process_time)
    assert visited.exhausted and left.exhausted and left.path is None and visited.path is None
    assert left.states < visited.states
    # The two choose their own names; the number of different logs and terms does not depend on them.
    assert shapes(whole) == shapes(covering)


def shapes(model: Visited) -> set[tuple[object, ...]]:
    """What was judged, without names."""
    found = set()
    for nodes, past in model.judged:
        disks = sorted(
            (node.disk.hard_state.term, node.disk.boundary, node.disk.entries, node.applied, node.saving is None)
            for node in nodes  # type: ignore[attr-defined]
        )
        found.add((tuple(disks), past.committed, len(past.led)))  # type: ignore[attr-defined]
    return found


def test_a_world_in_which_nothing_may_happen_stands_still() -> None:
    search = exhaust(Cluster(RaftCore(), {}), clock=time.process_time)
    assert (search.states, search.exhausted) == (1, True)


def test_one_timeout_elects_one_leader_and_no_second() -> None:
    model = Visited({"elections": 1})
    search = exhaust(model, clock=time.process_time)
    assert search.exhausted and search.path is None
    assert {len(past.led) for _, past in model.judged} == {0, 1}  # type: ignore[attr-defined]
    assert any(past.committed for _, past in model.judged)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("budgets", "goal"),
    [
        ({"elections": 1, "proposals": 1}, lambda model, state: model.past(state).floor == 2),
        ({"elections": 1, "reads": 1}, lambda model, state: model.past(state).floor == 1),
        ({"elections": 1, "compactions": 1}, lambda model, state: any(it.boundary.index for it in model.look(state))),
        (
            {"elections": 1, "transfers": 1},
            lambda model, state: sorted(it.term for it in model.look(state) if it.leads)[-1:] == [2],
        ),
        ({"elections": 1, "silences": 1}, lambda model, state: model.past(state).led and not leading(model, state)),
    ],
)
def test_what_a_budget_allows_does_happen(budgets, goal) -> None:  # type: ignore[no-untyped-def]
    """A search for it finds it: no plan is empty by mistake."""
    model = Cluster(RaftCore(), budgets)
    search = explore(model, clock=time.process_time, seconds=60, goal=lambda state: goal(model, state))
    assert search.path is not None and search.path.text == ""


def leading(model: Cluster, state: bytes) -> bool:
    return any(view.leads for view in model.look(state))


def test_a_budget_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="'tides' is none of elections, "):
        Cluster(RaftCore(), {"tides": 1})
    with pytest.raises(ValueError, match="less than none"):
        Cluster(RaftCore(), {"reads": -1})


@pytest.mark.parametrize("name", ["silences", "stalls"])
def test_a_plan_comes_to_its_end(name: str) -> None:
    """The others take longer and are left to the command."""
    search = exhaust(Cluster(RaftCore(), PLANS[name]), clock=time.process_time, seconds=60)
    assert search.exhausted and search.path is None


def test_random_walks_beyond_what_can_be_exhausted() -> None:
    budgets = dict.fromkeys(KINDS, 2) | {"elections": 5, "proposals": 3, "crashes": 3}
    walks = walk(Cluster(RaftCore(), budgets), Random(1), walks=10, depth=80, clock=time.process_time)
    assert walks.path is None and walks.steps > 150

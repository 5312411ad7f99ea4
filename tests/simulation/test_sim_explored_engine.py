"""The engine alone, on a client that wants five pings acknowledged (the model-checking lab's own first tests)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

import pytest

from twisted_kv.simulation.explorer.engine import exhaust, explore, replayed, walk

GOAL = 5


class World(NamedTuple):
    """acked: what the client has; net: pings ("p", n) and acknowledgments ("a", n) under way; wrong: what happened."""

    acked: int = 0
    net: frozenset[tuple[str, int]] = frozenset({("p", 1)})
    wrong: str = ""


class PingPong:
    """A client sends ping n until n is acknowledged, then n + 1; a server answers.

    Args:
        faults: the network may drop and duplicate.
        answers: how many ways the server has to answer; the second says nothing.
        cut: client and server cannot talk.
    """

    def __init__(self, faults: bool = False, answers: int = 1, cut: bool = False, careless: bool = False) -> None:
        self.faults, self.answers, self.cut, self.careless = faults, answers, cut, careless

    def initial(self) -> World:
        return World()

    def steps(self, world: World) -> Iterator[tuple[str, World]]:
        if self.cut:
            for message in sorted(world.net):
                yield f"{message} is lost", world._replace(net=world.net - {message})
            return
        if world.acked < GOAL:
            yield "timer", world._replace(net=world.net | {("p", world.acked + 1)})
        for message in sorted(world.net):
            rest = world._replace(net=world.net - {message})
            if self.faults:
                yield f"{message} is dropped", rest
            for way in range(self.answers if message[0] == "p" else 1):
                yield f"{message} comes, {way}", self.take(rest, message, way)
                if self.faults:
                    yield f"{message} comes, {way}, and will again", self.take(world, message, way)

    def take(self, world: World, message: tuple[str, int], way: int) -> World:
        kind, number = message
        if kind == "p":
            return world if way else world._replace(net=world.net | {("a", number)})
        if number != world.acked + 1 and not self.careless:
            return world
        acked = number if not self.careless else world.acked + number
        wrong = "acknowledged by more than one" if acked > world.acked + 1 else ""
        net = world.net | {("p", acked + 1)} if acked < GOAL else world.net
        return World(acked, net, wrong)

    def taken(self, world: World, step: str) -> World | None:
        return dict(self.steps(world)).get(step)

    def canonical(self, world: World) -> World:
        return world

    def broken(self, world: World) -> str:
        return world.wrong

    def told(self, world: World, step: str) -> str:
        return step

    def part(self, world: World) -> tuple[int, frozenset[tuple[str, int]]]:
        return world.acked, world.net

    def spent(self, world: World) -> int:
        return world.acked


def done(world: World) -> bool:
    return world.acked == GOAL


def test_states_are_equal_whatever_led_to_them() -> None:
    """state_test: equality and hash do not depend on order, and two orders of events meet."""
    assert hash(World(0, frozenset({("p", 1), ("a", 1)}))) == hash(World(0, frozenset({("a", 1), ("p", 1)})))
    model = PingPong(faults=True)
    one = replayed(model, ["('p', 1) comes, 0", "timer", "('a', 1) comes, 0"])
    other = replayed(model, ["('p', 1) comes, 0", "('a', 1) comes, 0, and will again", "('a', 1) is dropped"])
    assert one is not None and other is not None
    assert one.last._replace(net=one.last.net - {("p", 1)}) == other.last


def test_one_ping_under_way_has_six_successors() -> None:
    """state_test: timer, drop, and each of two behaviours once and duplicated."""
    assert len(list(PingPong(faults=True, answers=2).steps(World()))) == 6


def test_a_cut_pair_has_one_successor() -> None:
    """state_test: all that can happen to the message is that it disappears."""
    [(_, after)] = PingPong(cut=True).steps(World())
    assert after.net == frozenset()


@pytest.mark.parametrize(("model", "depth"), [(PingPong(), 15), (PingPong(True), 11), (PingPong(answers=2), 13)])
def test_all_to_a_depth(model: PingPong, depth: int) -> None:
    """search_test: nothing is broken in any state, and every state within the depth is counted once."""
    search = explore(model, depth=depth, clock=time.process_time)
    assert search.path is None
    expected = {World()}
    for _ in range(depth):
        expected |= {after for world in expected for _, after in model.steps(world)}
    assert search.states == len(expected)


def test_a_goal_is_found_by_a_shortest_path() -> None:
    """search_test: five pings there and back are ten steps, and none fewer will do."""
    search = explore(PingPong(), depth=15, clock=time.process_time, goal=done)
    assert search.path is not None and len(search.path.steps) == 2 * GOAL
    assert explore(PingPong(), depth=2 * GOAL - 1, clock=time.process_time, goal=done).path is None


def test_what_is_broken_is_found_with_its_path() -> None:
    search = explore(PingPong(faults=True, careless=True), clock=time.process_time)
    assert search.path is not None and search.path.text == "acknowledged by more than one"
    again = replayed(PingPong(faults=True, careless=True), search.path.taken)
    assert again == search.path
    assert search.path.lines()[-1].endswith("acknowledged by more than one")


def test_a_search_tells_whether_it_came_to_an_end() -> None:
    assert explore(PingPong(), clock=time.process_time).exhausted
    assert not explore(PingPong(), depth=3, clock=time.process_time).exhausted
    ticks = iter(range(1000))
    stopped = explore(PingPong(True), seconds=0.5, clock=lambda: next(ticks))
    assert not stopped.exhausted and "bound reached" in stopped.text


def test_covered_states_are_left_out_and_nothing_is_missed() -> None:
    """A state covers those with fewer messages; the broken one is found none the less, by a path without idle steps."""
    whole, covering = (search(PingPong(True), clock=time.process_time) for search in (explore, exhaust))
    assert covering.exhausted and covering.states < whole.states
    search = exhaust(PingPong(True, careless=True), clock=time.process_time)
    assert search.path is not None
    model = PingPong(True, careless=True)
    for place in range(len(search.path.taken)):
        less = replayed(model, [*search.path.taken[:place], *search.path.taken[place + 1 :]])
        assert less is None or not less.text


@pytest.mark.parametrize(("walks", "depth"), [(1000, 20), (500, 26)])
def test_random_walks(walks: int, depth: int) -> None:
    """search_test: nothing is broken; a careless client is found out; one seed walks one way."""
    assert walk(PingPong(True), Random(1), walks=walks, depth=depth, clock=time.process_time).path is None
    careless = PingPong(True, careless=True)
    one, other = (walk(careless, Random(2), walks=walks, depth=depth, clock=time.process_time) for _ in range(2))
    assert one.path is not None and one.path == other.path

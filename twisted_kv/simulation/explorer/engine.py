"""Visits every state of a small world, the nearest first, and says of the first bad one how it came about.

It knows a model only as states, steps and a judgement (``Model``), and has three ways through it:

``explore``: breadth first, each state once, where the model says which are equal; the path to what is wrong is a
    shortest one.
``exhaust``: for models in which one state can *cover* another, because all that can follow the other can follow it too
    (``Covering``): covered states are left out, those that cost less are visited first, and the path to what is wrong
    is shortened until no step can be left out of it.
``walk``: at random, beyond what can be exhausted.

It refuses to know what a state means.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterable, Sequence
from heapq import heappop, heappush
from random import Random
from typing import Any, Protocol, TypeVar

import msgspec

State = TypeVar("State", bound=Hashable)
Step = TypeVar("Step")


class Model(Protocol[State, Step]):
    """A world of states. All methods are pure; states are values."""

    def initial(self) -> State:
        """Where all begins."""

    def steps(self, state: State) -> Iterable[tuple[Step, State]]:
        """Everything that can happen next, and what it leads to."""

    def taken(self, state: State, step: Step) -> State | None:
        """What this step leads to, or None where it cannot be taken."""

    def canonical(self, state: State) -> State:
        """One state for all that are equal but for names."""

    def broken(self, state: State) -> str:
        """What is wrong with it, or ""."""

    def told(self, state: State, step: Step) -> str:
        """The step as a person reads it, taken from this state."""


class Covering(Model[State, Step], Protocol[State, Step]):
    """A model in which having more never hurts, as with messages that may come at any time or never."""

    def part(self, state: State) -> tuple[Hashable, frozenset[Any]]:
        """What must be equal, and what may be more, for one state to cover another."""

    def spent(self, state: State) -> int:
        """What it took, in whole numbers, to come here; no step gives anything back."""


class Layer(msgspec.Struct, frozen=True):
    """What one more step reached.

    Attributes:
        depth: steps from the beginning.
        new: states first seen at this depth; ``states``: seen up to here.
        seconds: since the search began.
    """

    depth: int
    new: int
    states: int
    seconds: float


class Path(msgspec.Struct, frozen=True):
    """How a state comes about.

    Attributes:
        text: what is wrong with the last state, or "" if it was looked for.
        steps: as people read them, from the initial state on; ``taken``: the same as the model has them.
        last: the state where it ends.
    """

    text: str
    steps: tuple[str, ...]
    taken: tuple[Any, ...]
    last: Any

    def lines(self) -> Sequence[str]:
        """The path, numbered, and what is wrong at its end."""
        numbered = [f"{number:4}  {step}" for number, step in enumerate(self.steps, 1)]
        return [*numbered, f"      {self.text}"] if self.text else numbered


class Search(msgspec.Struct, frozen=True):
    """What an exhaustive search came to.

    Attributes:
        states: different ones visited.
        steps: transitions followed.
        depth: every state up to this many steps (exhaust: up to this amount spent) was visited.
        exhausted: there are no others.
        path: to the first broken state or to the goal, a shortest one; None: there is none among those visited.
    """

    states: int
    steps: int
    depth: int
    seconds: float
    exhausted: bool
    path: Path | None = None

    @property
    def text(self) -> str:
        """One line."""
        rate = self.states / self.seconds if self.seconds else 0.0
        end = "exhausted" if self.exhausted else "stopped at a path" if self.path else "bound reached"
        return f"{self.states:,} states visited, depth {self.depth}, {end} ({self.seconds:.1f} s, {rate:,.0f} states/s)"


def explore(
    model: Model[State, Step],
    *,
    depth: int | None = None,
    seconds: float | None = None,
    clock: Callable[[], float],
    start: State | None = None,
    goal: Callable[[State], bool] | None = None,
    told: Callable[[Layer], None] = lambda layer: None,
) -> Search:
    """Visit all states within a bound, nearest first, until one is broken or is the goal.

    Args:
        depth: steps; None: no bound.
        seconds: of ``clock``, after which no further state is expanded; None: no bound.
        start: where to begin instead of the initial state.
        goal: asked of every canonical state that is not broken.
        told: called after each complete layer.
    """
    began = clock()
    origin = model.initial() if start is None else start
    first = model.canonical(origin)
    parents = array("l", [-1])
    seen: dict[State, int] = {first: 0}
    layer, reached, steps = [first], 0, 0
    if _is_end(model, first, goal):
        return Search(1, 0, 0, clock() - began, False, retraced(model, origin, [first]))
    while layer and (depth is None or reached < depth):
        following: list[State] = []
        for place, state in enumerate(layer):
            if seconds is not None and not place & 63 and clock() - began > seconds:
                return Search(len(seen), steps, reached, clock() - began, False)
            parent = seen[state]
            for _, successor in model.steps(state):
                steps += 1
                successor = model.canonical(successor)
                if successor in seen:
                    continue
                seen[successor] = len(parents)
                parents.append(parent)
                if _is_end(model, successor, goal):
                    path = retraced(model, origin, _chain(seen, parents, successor))
                    return Search(len(seen), steps, reached, clock() - began, False, path)
                following.append(successor)
        layer = following
        if layer:
            reached += 1
            told(Layer(reached, len(layer), len(seen), clock() - began))
    return Search(len(seen), steps, reached, clock() - began, not layer)


def _is_end(model: Model[State, Step], state: State, goal: Callable[[State], bool] | None) -> bool:
    return bool(model.broken(state)) or (goal is not None and goal(state))


def exhaust(
    model: Covering[State, Step],
    *,
    spend: int | None = None,
    seconds: float | None = None,
    clock: Callable[[], float],
    told: Callable[[Layer], None] = lambda layer: None,
) -> Search:
    """Visit all states but covered ones, those that took least first, until one is broken.

    Args:
        spend: do not visit what took more; None: no bound.
        seconds: of ``clock``, after which no further state is expanded; None: no bound.
        told: called whenever all that took one amount is visited; ``Layer.depth`` is then that amount.
    """
    began = clock()
    start = model.canonical(model.initial())
    seen: dict[State, int] = {start: 0}
    parents, steps, reached, before = array("l", [-1]), 0, 0, 0
    if model.broken(start):
        return Search(1, 0, 0, clock() - began, False, retraced(model, model.initial(), [start]))
    key, more = model.part(start)
    widest: dict[Hashable, list[frozenset[Any]]] = {key: [more]}
    waiting: list[tuple[int, int, int, State]] = [(model.spent(start), -len(more), 0, start)]
    expanded = 0
    while waiting:
        spent, _, number, state = heappop(waiting)
        if spent > reached:
            told(Layer(reached, len(seen) - before, len(seen), clock() - began))
            before = len(seen)
            if spend is not None and spent > spend:
                return Search(len(seen), steps, reached, clock() - began, False)
            reached = spent
        expanded += 1
        if seconds is not None and not expanded & 63 and clock() - began > seconds:
            return Search(len(seen), steps, reached - 1, clock() - began, False)
        key, more = model.part(state)
        if any(more < other for other in widest[key]):
            continue
        for _, successor in model.steps(state):
            steps += 1
            successor = model.canonical(successor)
            if successor in seen:
                continue
            key, more = model.part(successor)
            known = widest.get(key)
            if known is None:
                known = widest[key] = []
            elif any(more <= other for other in known):
                continue
            known[:] = [other for other in known if not other < more]
            known.append(more)
            number_of = seen[successor] = len(parents)
            parents.append(number)
            if model.broken(successor):
                path = shortened(model, retraced(model, model.initial(), _chain(seen, parents, successor)))
                return Search(len(seen), steps, reached, clock() - began, False, path)
            heappush(waiting, (model.spent(successor), -len(more), number_of, successor))
    told(Layer(reached, len(seen) - before, len(seen), clock() - began))
    return Search(len(seen), steps, reached, clock() - began, True)


def _chain(seen: dict[State, int], parents: Sequence[int], state: State) -> list[State]:
    """The canonical states from the first to this one."""
    order = list(seen)
    chain, at = [], seen[state]
    while at >= 0:
        chain.append(order[at])
        at = parents[at]
    return chain[::-1]


def retraced(model: Model[State, Step], origin: State, chain: Sequence[State]) -> Path:
    """The steps through a chain of canonical states, with one set of names from beginning to end.

    A chain that was merged by symmetry names its nodes anew at each state; so it is walked again from its
    origin, each time by a step that leads to an equal of the next.
    """
    state, steps = origin, []
    assert model.canonical(state) == chain[0], "the chain begins elsewhere"
    for wanted in chain[1:]:
        for step, successor in model.steps(state):
            if model.canonical(successor) == wanted:
                steps.append(step)
                state = successor
                break
        else:
            raise AssertionError("equal states have different successors: the model's symmetry is none")
    path = replayed(model, steps, origin)
    assert path is not None
    return path


def replayed(model: Model[State, Step], steps: Sequence[Step], origin: State | None = None) -> Path | None:
    """The path of these steps, up to the first broken state, or None where one of them cannot be taken.

    Args:
        origin: where they begin; the initial state unless given.
    """
    states = [model.initial() if origin is None else origin]
    for step in steps:
        state = model.taken(states[-1], step)
        if state is None:
            return None
        states.append(state)
        if model.broken(state):
            break
    lines = [model.told(state, step) for state, step in zip(states, steps, strict=False)]
    return Path(model.broken(states[-1]), tuple(lines), tuple(steps[: len(states) - 1]), states[-1])


def shortened(model: Model[State, Step], path: Path) -> Path:
    """The path without the steps that it does not need to end in something broken; none of the rest can go."""
    size = len(path.taken)
    while size:
        place, shorter = len(path.taken) - size, False
        while place > -size:
            kept = (*path.taken[: max(place, 0)], *path.taken[place + size :])
            other = replayed(model, kept)
            if other is not None and other.text:
                path, shorter = other, True
            place -= size
        size = size if shorter and size == 1 else size // 2
    return path


class Walks(msgspec.Struct, frozen=True):
    """What random walks came to: how many were begun, the steps of all, and the path of the first that went wrong."""

    walks: int
    steps: int
    seconds: float
    path: Path | None = None

    @property
    def text(self) -> str:
        """One line."""
        end = "one ended badly" if self.path else "nothing found"
        return f"{self.walks:,} walks, {self.steps:,} steps, {end} ({self.seconds:.1f} s)"


def walk(
    model: Model[State, Step],
    random: Random,
    *,
    walks: int,
    depth: int,
    clock: Callable[[], float],
    seconds: float | None = None,
    goal: Callable[[State], bool] | None = None,
) -> Walks:
    """Walk at random, each walk from the beginning, until a state is broken or is the goal.

    Args:
        walks: how many; ``depth``: steps of each, fewer where nothing can happen.
        seconds: of ``clock``, after which no further walk begins; None: no bound.
    """
    began, steps = clock(), 0
    for number in range(walks):
        if seconds is not None and clock() - began > seconds:
            return Walks(number, steps, clock() - began)
        state, taken = model.initial(), list[Step]()
        for _ in range(depth):
            choices = list(model.steps(state))
            if not choices:
                break
            step, successor = choices[int(random.random() * len(choices))]
            taken.append(step)
            state, steps = successor, steps + 1
            if _is_end(model, state, goal):
                return Walks(number + 1, steps, clock() - began, replayed(model, taken))
    return Walks(walks, steps, clock() - began)

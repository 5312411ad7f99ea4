"""The command ``twisted-kv explore``: which small worlds are searched, what is printed, what the exit status means.

Each plan is a set of budgets, chosen so that its world can be exhausted in about a minute at most; a run without a
plan takes one after the other, small ones first. Everything is printed by what is given; nothing here judges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from twisted_kv.simulation.explorer.cluster import KINDS, Cluster
from twisted_kv.simulation.explorer.cores import CORES
from twisted_kv.simulation.explorer.engine import Layer, Path, exhaust, explore, walk

PLANS: Final[Mapping[str, Mapping[str, int]]] = {
    "silences": {"elections": 1, "silences": 1, "unreachables": 1},
    "stalls": {"elections": 1, "crashes": 1, "stalls": 1},
    "crashes": {"elections": 2, "crashes": 1},
    "reads": {"elections": 1, "proposals": 1, "reads": 1},
    "snapshots": {"elections": 1, "proposals": 1, "compactions": 1, "crashes": 1},
    "transfers": {"elections": 1, "proposals": 1, "transfers": 1},
    "proposals": {"elections": 2, "proposals": 1},
    "elections": {"elections": 3},
}
"""What may happen how often, by name of the plan."""


def budgets_from(text: str) -> Mapping[str, int]:
    """Budgets as they are written on the command line.

    Raises:
        ValueError: it cannot be read, or names what there is not.

    >>> budgets_from("elections=2,crashes=1")
    {'elections': 2, 'crashes': 1}
    """
    budgets = {}
    for part in filter(None, text.split(",")):
        kind, equals, amount = part.partition("=")
        if kind not in KINDS or not equals or not amount.isdecimal():
            raise ValueError(f"{part!r} is not KIND=COUNT with a kind of {', '.join(KINDS)}")
        budgets[kind] = int(amount)
    return budgets


def main(
    core: str,
    plans: Mapping[str, Mapping[str, int]],
    depth: int | None,
    seconds: float | None,
    walks: int,
    walk_depth: int,
    seed: int,
    write: Callable[[str], None],
    clock: Callable[[], float],
) -> int:
    """Search each plan until something is wrong; 1 if so, else 0.

    Args:
        depth: steps, breadth first; None: everything, by what it spends.
        seconds: for each plan; None: no bound.
        walks, walk_depth: random walks after the search; ``seed`` their chance.
    """
    for name, budgets in plans.items():
        told = ",".join([f"{kind}={amount}" for kind, amount in budgets.items()])
        write(f"{name}: core {core}, 3 nodes, {told or 'nothing may happen'}")
        model = Cluster(CORES[core], budgets)

        def layer(layer: Layer, unit: str = "steps" if depth is not None else "spent") -> None:
            write(f"  {layer.depth:3} {unit}  {layer.new:10,} new  {layer.states:10,} states  {layer.seconds:7.1f} s")

        if depth is not None:
            search = explore(model, depth=depth, seconds=seconds, clock=clock, told=layer)
        else:
            search = exhaust(model, seconds=seconds, clock=clock, told=layer)
        write(f"  {search.text}")
        write(f"  {model.counts}")
        path, replay = search.path, f"twisted-kv explore --core {core} --budget {told}"
        if path is None and walks:
            walked = walk(model, Random(seed), walks=walks, depth=walk_depth, seconds=seconds, clock=clock)
            write(f"  seed {seed}: {walked.text}")
            path, replay = walked.path, f"{replay} --walks {walks} --walk-depth {walk_depth} --seed {seed}"
        if path is not None:
            _write_path(path, replay, write)
            return 1
    return 0


def _write_path(path: Path, replay: str, write: Callable[[str], None]) -> None:
    for line in path.lines():
        write(line)
    write(f"again: {replay}")

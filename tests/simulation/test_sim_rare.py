"""Rare events have names that are used, and lives reach them."""

import ast
from pathlib import Path

from twisted_kv.simulation.doors import rare
from twisted_kv.simulation.doors.rare import RARE
from twisted_kv.simulation.faults.nemesis import PLANS
from twisted_kv.simulation.lives.life import run_seed

ROOM = Path(rare.__file__).parent.parent


def reached_names():
    """What is an argument of a call of ``reach``, as written."""
    for path in ROOM.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            if getattr(called, "attr", getattr(called, "id", None)) == "reach":
                for argument in ast.walk(node.args[0]):
                    if isinstance(argument, ast.Constant):
                        yield argument.value


def test_every_name_is_counted_somewhere_and_no_other_is():
    assert set(reached_names()) == set(RARE)


def test_there_are_enough_and_each_is_a_sentence():
    assert 30 <= len(RARE) <= 60
    assert all(sentence[0].isupper() and sentence.endswith(".") for sentence in RARE.values())


def test_few_lives_reach_many_of_them():
    """Which life reaches which shifts with every change of the program; that all are reached is demanded of a sweep
    (``simulate --demand-rare``)."""
    reached = set()
    for plan, seed in (("elections", 11), ("snapshots", 15), ("moves", 12), ("everything", 11), ("disks", 11)):
        reached |= set(run_seed(seed, PLANS[plan]).reached)
    assert len(reached) >= len(RARE) // 2

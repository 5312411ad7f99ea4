from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.tasks import GOALS, Outcome, Row, Task, rows_of

GO = Path(__file__).resolve().parent.parent.parent / "benchmarks" / "loads" / "etcd" / "main.go"


def test_the_usual_rows_are_those_with_goals() -> None:
    assert {(row.kind, row.clients, row.connections) for row in rows_of([1, 64, 256])} == set(GOALS)
    assert [row.goal for row in rows_of([256, 1, 64])] == [1.0, 4.0, 6.0, 1.5, 5.0]


def test_one_client_needs_no_second_connection() -> None:
    assert rows_of([1]) == [Row("put", 1), Row("get", 1)]


def test_titles_tell_clients_from_connections() -> None:
    assert Row("put", 64, 64).title == "put, 64 clients, 64 connections"
    assert Row("get", 1).title == "linearizable get, 1 client, one connection"


def test_tasks_and_outcomes_survive_the_command_line() -> None:
    task = Task(("a", "b"), "put", clients=3, connections=2, seconds=1.5, keys=7, seed=4)
    assert Task.from_argument(task.as_argument()) == task
    outcome = Outcome(1.0, 0.5, [1, 2], 1, "no")
    assert Outcome.from_line(outcome.as_line()) == outcome


@pytest.mark.parametrize("line", ["", "end", "[]", '{"seconds": 1}', '{"seconds": 1, "odd": 2}', "{"])
def test_what_is_no_outcome(line: str) -> None:
    with pytest.raises(ValueError, match="not the outcome of a load"):
        Outcome.from_line(line)


def test_the_load_in_go_reads_and_says_the_same_fields() -> None:
    """It is built only where there is a Go; its fields are read from its source."""
    source = GO.read_text()
    task, outcome = (
        re.search(rf"^type {name} struct {{(.*?)^}}", source, re.DOTALL | re.M) for name in ("task", "outcome")
    )
    assert task is not None
    assert outcome is not None
    assert set(re.findall(r'json:"(\w+)"', task[1])) == set(json.loads(Task((), "put").as_argument()))
    assert set(re.findall(r'json:"(\w+)"', outcome[1])) == set(json.loads(Outcome(0, 0, []).as_line()))

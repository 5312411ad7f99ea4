"""Results: a hunt goes on where it was, and only for the same program and options."""

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import crash_results
import pytest
from crash_points import Failures, Points
from crash_recording import Call
from crash_results import Results

OPTIONS = {"seed": 0, "every": 1}
POINTS = Points("votes", writes=3, refused=Counter({"why": 2}), violations=[("text", "votes --point 3")])
FAILURES = Failures("votes", {"write EIO": Counter({"stopped": 4})}, runs=4, states=9)


@pytest.fixture
def file(tmp_path):
    results = Results(tmp_path / "results.jsonl", OPTIONS)
    results.keep(("votes", None), POINTS)
    results.keep(("votes", Call.WRITE), FAILURES)
    return tmp_path / "results.jsonl"


def test_what_was_found_is_found_again(file):
    found = Results(file, dict(OPTIONS)).found
    assert found == {("votes", None): POINTS, ("votes", Call.WRITE): FAILURES}
    assert isinstance(found["votes", Call.WRITE].ended["write EIO"], Counter)


def test_other_options_find_something_else(file):
    assert not Results(file, OPTIONS | {"seed": 1}).found


def test_another_program_begins_anew(file, monkeypatch):
    monkeypatch.setattr(crash_results, "program_digest", lambda: "another")
    assert not Results(file, OPTIONS).found


def test_a_line_that_was_being_written_is_forgotten(file):
    whole = file.read_text()
    file.write_text(whole[:-10])
    results = Results(file, OPTIONS)
    assert set(results.found) == {("votes", None)}
    results.keep(("votes", Call.WRITE), FAILURES)
    assert file.read_text() == whole

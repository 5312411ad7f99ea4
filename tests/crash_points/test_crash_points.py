"""A bounded share of the hunt, and proof that it bites (hazards 1, 2, 16-19, 27-37; docs/crash-points.md).

The hunt is the command; here it is run as people run it. It needs a C compiler: ``python -m pytest -m shim``.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.shim]

HUNT = Path(__file__).with_name("hunt.py")


def hunt(*arguments):
    """The status and the output of one run."""
    command = [sys.executable, str(HUNT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def figures(output, row):
    """The numbers of one row of a table."""
    lines = re.findall(rf"^{row}  +(\d.*)$", output, re.MULTILINE)
    return [int(word) for word in lines[-1].split()]


def test_the_power_fails_at_points_of_all_twenty_workloads():
    status, output = hunt("--part", "points", "--every", 45, "--states-max", 8)
    assert status == 0, output
    names = re.findall(r"^([a-z-]+)  +\d", output, re.MULTILINE)
    assert len(names) == 21 and names[-1] == "all"
    writes, syncs, points, states, opened, judged, _, booted, refused, wrong = figures(output, "all")
    assert min(writes, syncs, points) > 500 and judged >= states > opened > 200 and booted > 50
    assert refused == wrong == 0


def test_a_hunt_that_was_stopped_goes_on_where_it_was(tmp_path):
    arguments = ("votes", "--part", "points", "--every", 40, "--results", tmp_path / "results.jsonl")
    status, first = hunt(*arguments)
    assert status == 0 and "were done before" not in first
    status, second = hunt(*arguments)
    assert status == 0 and "1 tasks were done before, 0 are left" in second
    assert figures(second, "votes") == figures(first, "votes")


def test_calls_fail_in_two_workloads():
    status, output = hunt("creation", "follower-installs", "--part", "failures", "--every", 13)
    assert status == 0, output
    for kind in ("write EIO", "write ENOSPC …", "write HALF", "sync EIO", "sync KILL", "open EIO", "truncate ENOSPC"):
        assert figures(output, kind)[0] > 0
    assert {"stopped", "was killed", "refused to start", "went on to the end"} <= set(re.split(r"  +|\n", output))


@pytest.mark.parametrize(
    ("plant", "arguments", "complaint"),
    [
        ("normal", ("appends", "--part", "points", "--every", 9), "the log is"),
        ("early", ("follower", "--part", "points", "--every", 5), "was acknowledged to a leader"),
        ("log-first", ("follower-installs", "--part", "points", "--every", 5), "do not belong together"),
        ("unread-rows", ("follower-installs", "--part", "points", "--every", 10), "holds other rows"),
        ("definite", ("votes", "--fault", "sync:22+:EIO"), "the log is"),
    ],
)
def test_a_planted_fault_is_found(plant, arguments, complaint):
    """Unsynced commits; answers before the save; the log emptied before the rows are there; rows that a start does not
    read; unknown told as no."""
    status, output = hunt(*arguments, "--plant", plant)
    assert status == 1, output
    assert f"VIOLATION {arguments[0]}: " in output and complaint in output
    [replay, *_] = re.findall(r"see it again: python tests/crash_points/hunt.py (.+)", output)
    assert hunt(*replay.split())[0] == 1

"""A short round of real processes under fire, and proof that such a round can fail (docs/chaos.md)."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from random import SystemRandom

import pytest

pytestmark = [pytest.mark.process, pytest.mark.slow]

COMMAND = Path(__file__).parent / "run.py"
PATIENCE_SECONDS = 400


def chaos(*arguments):
    """The command's exit status and what it said; its output is shown when a test fails, with the seed in it."""
    command = [sys.executable, str(COMMAND), "--minutes", "10", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    sys.stdout.write(ended.stdout)
    sys.stderr.write(ended.stderr)
    return ended.returncode, ended.stdout


def test_one_round_under_fire(tmp_path):
    """A new seed each time: no violation, some load, and a record from which the table is made."""
    seed, record = SystemRandom().getrandbits(31), tmp_path / "rounds"
    short = ("--rounds", "1", "--groups", "2", "--warm", "2", "--fire", "10", "--calm", "2", "--rate", "2")
    status, told = chaos("--seed", str(seed), "--record", str(record), *short)
    assert status == 0
    assert told.startswith(f"seed {seed}, ")
    assert "1 rounds: 0 with violations, 0 void" in told
    status, table = chaos("--record", str(record), "--report")
    assert status == 0
    assert "| rounds | 1 |" in table
    assert "| **violations**, also in void rounds | 0 |" in table


def test_a_planted_fault_fails(tmp_path):
    """Servers that forget their votes: after every power-off terms begin anew, with other leaders."""
    short = ("--rounds", "1", "--groups", "1", "--warm", "2", "--fire", "10", "--calm", "1", "--rate", "2")
    status, told = chaos("--seed", "1", "--plant", "votes-forgotten", "--faults", "power", "--no-churn", *short)
    assert status == 1
    assert "one leader per term" in told
    [evidence] = re.findall(r"look at (\S+): ", told)
    for name in ("story.txt", "history.txt", "controller-1.log"):
        assert (Path(evidence) / name).exists()
    subprocess.run(["rm", "-r", evidence], check=True)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"])
def test_nothing_is_left_behind(tmp_path, signum):
    """However the harness ends, its servers end with it."""
    command = [sys.executable, str(COMMAND), "--minutes", "10", "--groups", "1", "--verbose"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as harness:
        assert harness.stdout is not None
        while "cluster 1 in" not in harness.stdout.readline():
            assert harness.poll() is None
        while not (servers := children(harness.pid)):
            assert harness.poll() is None
        harness.send_signal(signum)
        # Every server holds our pipe's writing end as little as it holds the harness's: this ends with the harness.
        harness.stdout.read()
    for pid in servers:
        wait_until_gone(pid)
    if signum == signal.SIGINT:
        assert harness.returncode == 130
        assert list(tmp_path.iterdir()) == []


def children(pid):
    """Process ids of the children of a process."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until_gone(pid):
    """Return when there is no such process, or only what nobody has waited for yet."""
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state in "ZX":
            return

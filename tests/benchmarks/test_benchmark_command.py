"""The whole command, with real processes; and what it says of peers that are not here."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.children import Children, Failed
from benchmarks.command import PEERS, command
from benchmarks.peers import etcd
from benchmarks.peers.etcd import Etcd
from benchmarks.peers.peer import Missing
from benchmarks.peers.redis import Redis

ROOT = Path(__file__).resolve().parent.parent.parent
RUN = str(ROOT / "benchmarks" / "run.py")
DOCUMENT = (ROOT / "docs" / "benchmarks.md").read_text()


def still_running(words: str) -> list[str]:
    """The command lines of processes that name something."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if words in text and str(os.getpid()) != path.parent.name:
            found.append(text)
    return found


@pytest.mark.process
def test_ours_and_the_limits(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--peers", "ours,fsync,fdatasync,echo", "--clients", "1,4", "--rounds", "2"]
    arguments += ["--seconds", "0.2", "--warmup", "0.1", "--keys", "50", "--out", str(out)]
    ended = subprocess.run([sys.executable, RUN, *arguments], capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    written: dict[str, Any] = json.loads((out / "results.json").read_text())
    assert written["plan"]["rows"] == ["put 1", "put 4", "put 4x4", "get 4"]
    measured = [(each["round"], each["system"], each["row"]) for each in written["samples"]]
    rows = {"ours": written["plan"]["rows"], "fsync": ["put 1", "put 4"]}
    rows |= {"fdatasync": rows["fsync"], "echo": ["put 1", "put 4", "put 4x4"]}
    assert measured == [(number, system, row) for number in range(2) for system in rows for row in rows[system]]
    for each in written["samples"]:
        assert each["errors"] == 0, each
        assert 0 < each["p50_ms"] <= each["p99_ms"] <= each["p999_ms"] <= each["max_ms"]
    assert {"controller-1", "group-100-1", "group-100-2", "group-100-3"} == set(written["samples"][0]["server_cpu_us"])
    assert (out / "table.txt").read_text().strip() in ended.stdout
    for text in ((out / "table.txt").read_text(), (out / "table.md").read_text()):
        assert "linearizable get, 4 clients, one connection" in text
        assert "there is no etcd in this run" in text
    assert not (out / "servers").exists()
    assert still_running(str(out)) == []


@pytest.mark.process
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_leaves_no_process_and_tells_what_it_has(tmp_path: Path, signum: int) -> None:
    out = tmp_path / "out"
    arguments = ["--peers", "fsync,ours", "--clients", "1", "--seconds", "0.1", "--warmup", "0", "--keys", "10"]
    arguments += ["--rounds", "1000", "--out", str(out)]
    running = subprocess.Popen(
        [sys.executable, RUN, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert running.stderr is not None
    for line in running.stderr:
        if "twisted-kv: 10 keys" in line:
            assert len(still_running(str(out))) >= 4
            running.send_signal(signum)
            break
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 128 + signum
    assert "the run was ended early" in said
    assert json.loads((out / "results.json").read_text())["samples"][0]["system"] == "fsync"
    assert still_running(str(out)) == []
    assert not (out / "servers").exists()


@pytest.mark.process
def test_an_alarm_that_nobody_turned_off_keeps_no_process_alive() -> None:
    """A run that was ended while an alarm was being set stayed for a quarter of an hour."""
    code = "from benchmarks.rounds import _Alarm; _Alarm(None, 'load', 600.0).__enter__()"
    subprocess.run([sys.executable, "-c", code], cwd=Path(RUN).parents[1], timeout=60, check=True)


@pytest.mark.process
def test_children_end_by_their_id_even_if_they_will_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.children.STOP_SECONDS", 0.5)
    children = Children(tmp_path)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    process = children.asked("deaf", [sys.executable, "-c", deaf])
    assert process.stdout is not None
    assert process.stdout.readline() == b"deaf\n"
    children.stop()
    assert process.returncode == -signal.SIGKILL
    assert children.pids() == {}


@pytest.mark.process
def test_a_child_that_ends_by_itself_is_quoted(tmp_path: Path) -> None:
    children = Children(tmp_path)
    process = children.asked("gone", [sys.executable, "-c", "import sys; sys.exit('the disk is on fire')"])
    process.wait(30)
    with pytest.raises(Failed, match="gone ended with status 1: the disk is on fire"):
        children.check()
    children.stop()
    with pytest.raises(Failed, match="no-such-program: No such file"):
        children.start("none", ["no-such-program"])


def test_what_is_missing_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(Missing, match="etcd-server"):
        Etcd().prepare(tmp_path)
    with pytest.raises(Missing, match="redis-server"):
        Redis().prepare(tmp_path)
    with pytest.raises(Missing, match="golang-go"):
        etcd._built(str(tmp_path / "load"))
    monkeypatch.setattr(etcd, "GOPATH", tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: f"/{name}")
    with pytest.raises(Missing, match="golang-etcd-server-dev"):
        etcd._built(str(tmp_path / "load"))


@pytest.mark.parametrize(
    "arguments",
    [["--peers", "ours,nobody"], ["--clients", "1,x"], ["--clients", "0"], ["--rounds", "0"], ["--seconds", "0"]],
)
def test_bad_options(arguments: list[str]) -> None:
    assert CliRunner().invoke(command, arguments).exit_code == 2


def test_every_option_and_system_is_in_the_document() -> None:
    for parameter in command.params:
        assert f"`{parameter.opts[0]}" in DOCUMENT
    assert re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.M) == list(PEERS)

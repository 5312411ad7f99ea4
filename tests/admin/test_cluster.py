from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, ensureDeferred

from twisted_kv.admin import cluster
from twisted_kv.admin.cluster import Child, Cluster, free_ports, twistd


class Reactor:
    """Notes what would be started."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []

    def spawnProcess(self, child: Child, executable: str, command: list[str], **kwargs: Any) -> None:
        self.commands.append(command)
        child.running = False


def test_ports_are_different_and_free() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    with socket.socket() as each:
        each.bind(("127.0.0.1", ports[0]))


def test_the_command_lines_are_those_of_the_contract(tmp_path: Path) -> None:
    """Contract §1, §2: 3 controllers, groups of 3, each its own twistd process."""
    reactor = Reactor()
    cluster = Cluster(reactor, tmp_path)
    cluster.start_controllers(3)
    cluster.start_group(100, 3)
    assert len(reactor.commands) == 6
    first, fourth = reactor.commands[0], reactor.commands[3]
    start = first.index("kv-controller")
    assert first[:start] == [*twistd(), "--nodaemon", "--pidfile="]
    assert first.count("--peer") == 3
    assert f"1={cluster.controller_endpoints[0]}" in first
    assert fourth[fourth.index("kv-group") :][1:5] == ["--node", "1", "--data", str(tmp_path / "group-100-1")]
    assert fourth.count("--controller") == 3
    assert fourth[fourth.index("--gid") + 1] == "100"
    assert len(cluster.endpoints(100)) == 3


def test_every_command_line_can_be_parsed(tmp_path: Path) -> None:
    from twisted_kv.service.controller import Options as ControllerOptions
    from twisted_kv.service.group import Options as GroupOptions

    reactor = Reactor()
    cluster = Cluster(reactor, tmp_path)
    cluster.start_controllers(3)
    cluster.start_group(100, 3)
    for command in reactor.commands:
        options = ControllerOptions() if "kv-controller" in command else GroupOptions()
        options.parseOptions(command[command.index("--pidfile=") + 2 :])


def sleeper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str) -> tuple[Cluster, Child]:
    from twisted.internet import reactor

    monkeypatch.setattr(cluster, "twistd", lambda: [sys.executable, "-c", program])
    made = Cluster(reactor, tmp_path)
    child = Child("sleeper", "tcp:127.0.0.1:1", [])
    made.controllers = [child]
    made.spawn(child)
    return made, child


@pytest.mark.process
@pytest_twisted.ensureDeferred
async def test_children_are_stopped_by_their_own_process_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Contract §2: Ctrl-C stops all of it."""
    made, child = sleeper(monkeypatch, tmp_path, "import signal; print('up', flush=True); signal.pause()")
    assert child.transport is not None
    pid = child.transport.pid
    await within_seconds(made.stop())
    assert not child.running
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    await made.stop()


@pytest.mark.process
@pytest_twisted.ensureDeferred
async def test_a_child_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cluster, "STOP_SECONDS", 0.2)
    program = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    made, child = sleeper(monkeypatch, tmp_path, program)
    await until_said(tmp_path, "deaf")
    await within_seconds(made.stop())
    assert not child.running


@pytest.mark.process
@pytest_twisted.ensureDeferred
async def test_a_child_that_was_killed_can_be_started_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made, child = sleeper(monkeypatch, tmp_path, "import signal; print('up', flush=True); signal.pause()")
    child.kill(signal.SIGKILL)
    await within_seconds(child.gone())
    assert child.status == -signal.SIGKILL
    child.kill(signal.SIGKILL)
    made.spawn(child)
    assert child.running
    await until_said(tmp_path, "up")
    await within_seconds(made.stop())


async def until_said(directory: Path, text: str) -> None:
    """Until the child has written this to its log."""
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    async def look() -> None:
        while text not in (directory / "sleeper.log").read_text():
            await deferLater(reactor, 0.01)

    await within_seconds(look())


def within_seconds(work: Any) -> Deferred[Any]:
    """No test waits for ever."""
    from twisted.internet import reactor

    deferred = work if isinstance(work, Deferred) else ensureDeferred(work)
    return deferred.addTimeout(20, reactor)  # type: ignore[arg-type]

"""A cluster of real twistd processes on loopback, in a directory of its own, for the demo.

Decides ports, command lines and how children end: each is known by its process id and stopped by that alone. Knows
nothing of what is done with the cluster.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

STOP_SECONDS = 10.0


@dataclass(eq=False)
class Child(ProcessProtocol):
    """One twistd process: its command line stays, its process may come and go.

    Attributes:
        name: also of its data directory and its log file.
        endpoint: the client endpoint at which it is dialled.
        status: how the process ended last: its exit status, or minus the signal; None before.
    """

    name: str
    endpoint: str
    arguments: Sequence[str]
    running: bool = False
    status: int | None = None
    ended: list[Deferred[None]] = field(default_factory=list)

    def processEnded(self, reason: Failure) -> None:
        self.running = False
        ending: Any = reason.value
        self.status = ending.exitCode if ending.signal is None else -ending.signal
        waiting, self.ended = self.ended, []
        for done in waiting:
            done.callback(None)

    def gone(self) -> Deferred[None]:
        """Fires when the process has ended."""
        done: Deferred[None] = Deferred()
        if self.running:
            self.ended.append(done)
        else:
            done.callback(None)
        return done

    def kill(self, signum: int) -> None:
        """Send a signal, if there is a process."""
        if self.running and self.transport is not None:
            os.kill(self.transport.pid, signum)


class Cluster:
    """Children on loopback ports that were free a moment ago.

    Args:
        directory: theirs; data and logs are made inside.
    """

    def __init__(self, reactor: Any, directory: Path) -> None:
        self._reactor = reactor
        self.directory = directory
        self.controllers: list[Child] = []
        self.groups: dict[int, list[Child]] = {}

    @property
    def controller_endpoints(self) -> list[str]:
        """Where clients begin."""
        return [child.endpoint for child in self.controllers]

    def endpoints(self, gid: int) -> list[str]:
        """The servers of one group."""
        return [child.endpoint for child in self.groups[gid]]

    def start_controllers(self, count: int) -> None:
        """Start the controllers, once."""
        self.controllers = self._children("controller", "kv-controller", count, [])

    def start_group(self, gid: int, count: int) -> None:
        """Start the servers of a group; nobody has joined it yet."""
        extra = ["--gid", str(gid)]
        for endpoint in self.controller_endpoints:
            extra += ["--controller", endpoint]
        self.groups[gid] = self._children(f"group-{gid}", "kv-group", count, extra)

    def spawn(self, child: Child) -> None:
        """Start a child, or start it again."""
        with open(self.directory / f"{child.name}.log", "ab") as log, open(os.devnull, "rb") as nothing:
            command = [*twistd(), "--nodaemon", "--pidfile=", *child.arguments]
            fds = {0: nothing.fileno(), 1: log.fileno(), 2: log.fileno()}
            child.running = True
            self._reactor.spawnProcess(child, command[0], command, env=dict(os.environ), childFDs=fds)

    async def stop(self) -> None:
        """Stop every child: SIGTERM, and SIGKILL for what has not ended in time."""
        children = [child for group in [self.controllers, *self.groups.values()] for child in group]
        for child in children:
            child.kill(signal.SIGTERM)

        def kill_all() -> None:
            for child in children:
                child.kill(signal.SIGKILL)

        late = self._reactor.callLater(STOP_SECONDS, kill_all)
        await DeferredList([child.gone() for child in children])
        if late.active():
            late.cancel()

    def _children(self, name: str, service: str, count: int, extra: Sequence[str]) -> list[Child]:
        ports = free_ports(count)
        peers = [f"{node}=tcp:127.0.0.1:{port}" for node, port in enumerate(ports, 1)]
        children = []
        for node, port in enumerate(ports, 1):
            own = f"{name}-{node}"
            arguments = [service, "--node", str(node), "--data", str(self.directory / own)]
            arguments += ["--listen", f"tcp:{port}:interface=127.0.0.1", *extra]
            for peer in peers:
                arguments += ["--peer", peer]
            children.append(Child(own, f"tcp:127.0.0.1:{port}", arguments))
        for child in children:
            self.spawn(child)
        return children


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def twistd() -> list[str]:
    """How to run twistd on this very interpreter."""
    beside = shutil.which("twistd", path=str(Path(sys.executable).parent))
    return [beside] if beside else [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]

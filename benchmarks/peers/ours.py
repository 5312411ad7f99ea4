"""Ours: one group of three kv-group processes, and one controller, each its own twistd."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import ClassVar, Final

import msgspec

import twisted
import twisted_kv
from benchmarks.children import Children, Failed
from benchmarks.peers.peer import Replicated, python
from benchmarks.tasks import PATIENCE_SECONDS, Task
from twisted_kv._version import __version__
from twisted_kv.admin.cluster import free_ports, twistd

GID: Final = 100
REPLICAS: Final = 3


class Ours(Replicated):
    """twisted-kv with the settings it has by default."""

    name: ClassVar[str] = "ours"
    title: ClassVar[str] = "twisted-kv"
    promises: ClassVar[str] = "3 replicas, fsynced by a majority"

    def __init__(self) -> None:
        self._controller, *self._group = free_ports(1 + REPLICAS)

    def prepare(self, directory: Path) -> str:
        where = Path(twisted_kv.__file__).resolve().parent.parent
        revision = subprocess.run(
            ["git", "-C", str(where), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
        ).stdout.strip()
        return (
            f"{__version__} ({revision or 'installed'}), Twisted {twisted.__version__}, msgspec {msgspec.__version__}"
        )

    def commands(self, directory: Path) -> dict[str, list[str]]:
        controller = f"tcp:127.0.0.1:{self._controller}"
        peers = [f"--peer={node}=tcp:127.0.0.1:{port}" for node, port in enumerate(self._group, 1)]
        common = [*twistd(), "--nodaemon", "--pidfile="]
        own = ["kv-controller", "--node=1", f"--data={directory / 'controller'}", f"--peer=1={controller}"]
        commands = {"ours-controller": [*common, *own, f"--listen={_loopback(self._controller)}"]}
        for node, port in enumerate(self._group, 1):
            own = ["kv-group", f"--gid={GID}", f"--node={node}", f"--data={directory / f'group-{node}'}"]
            own += [f"--controller={controller}", f"--listen={_loopback(port)}"]
            commands[f"ours-{node}"] = [*common, *own, *peers]
        return commands

    def leader(self) -> str:
        command = python("twisted_kv.admin", "-c", self.endpoints()[0], "--json", "status")
        asked = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
        if asked.returncode != 0:
            raise Failed(f"status: {asked.stderr.strip()}")
        for member in json.loads(asked.stdout)["groups"][str(GID)]:
            if member["role"] == "leader":
                return f"ours-{member['node']}"
        raise Failed("no member of the group leads")

    def joined(self, children: Children) -> None:
        endpoints = ",".join(f"tcp:127.0.0.1:{port}" for port in self._group)
        command = python("twisted_kv.admin", "-c", self.endpoints()[0], f"--timeout={PATIENCE_SECONDS:g}")
        children.asked("ours-join", [*command, "join", f"{GID}={endpoints}"])
        if children.ended("ours-join", PATIENCE_SECONDS) != 0:
            children.check()
            raise Failed(f"the group could not join: {children.tail('ours-join')}")

    def endpoints(self) -> tuple[str, ...]:
        return (f"tcp:127.0.0.1:{self._controller}",)

    def servers(self) -> tuple[str, ...]:
        """Of the group, in the order of their nodes."""
        return tuple(f"tcp:127.0.0.1:{port}" for port in self._group)

    def load(self, task: Task) -> list[str]:
        return python("benchmarks.loads.ours", task.as_argument())


def _loopback(port: int) -> str:
    return f"tcp:{port}:interface=127.0.0.1"

"""Ours in any shape: so many controllers, so many groups of so many servers, each its own twistd on loopback.

Decides ports, names and command lines; everything is asked through ``twisted-kv``, as an operator would. Knows nothing
of what is measured.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

import twisted
import twisted_kv
from benchmarks.children import Children, Failed
from benchmarks.peers.peer import python
from benchmarks.tasks import PATIENCE_SECONDS
from twisted_kv._version import __version__
from twisted_kv.admin.cluster import free_ports, twistd

REPLICAS: Final = 3


def version() -> str:
    """Of what is measured."""
    where = Path(twisted_kv.__file__).resolve().parent.parent
    revision = subprocess.run(
        ["git", "-C", str(where), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return f"{__version__} ({revision or 'installed'}), Twisted {twisted.__version__}, msgspec {msgspec.__version__}"


class Cluster:
    """A cluster with the settings it has by default.

    Args:
        gids: of its groups, each of ``replicas`` servers.
        controllers: how many.
    """

    def __init__(self, gids: Sequence[int], controllers: int = 1, replicas: int = REPLICAS) -> None:
        self._controllers = free_ports(controllers)
        ports = iter(free_ports(len(gids) * replicas))
        self._groups = {gid: [next(ports) for _ in range(replicas)] for gid in gids}

    def commands(self, directory: Path) -> dict[str, list[str]]:
        """Name of a process → the command that starts it; the same directory again continues with its data."""
        commands = _commands("controller", ["kv-controller"], self._controllers, directory)
        dialled = [f"--controller={endpoint}" for endpoint in self.endpoints()]
        for gid, ports in self._groups.items():
            commands |= _commands(f"group-{gid}", ["kv-group", f"--gid={gid}", *dialled], ports, directory)
        return commands

    def start(self, children: Children, directory: Path) -> None:
        """Start every server; none need answer yet.

        Raises:
            Failed: a process would not start.
        """
        directory.mkdir(exist_ok=True)
        for name, command in self.commands(directory).items():
            children.start(name, command)

    def endpoints(self) -> tuple[str, ...]:
        """Of the controllers, where clients begin."""
        return tuple(f"tcp:127.0.0.1:{port}" for port in self._controllers)

    def servers(self, gid: int) -> tuple[str, ...]:
        """Endpoints of a group's servers, in the order of their nodes."""
        return tuple(f"tcp:127.0.0.1:{port}" for port in self._groups[gid])

    def members(self, gid: int) -> tuple[str, ...]:
        """Names of the processes of a group's servers, in the order of their nodes."""
        return tuple(_process(f"group-{gid}", node) for node, _ in enumerate(self._groups[gid], 1))

    def join(self, gids: Sequence[int]) -> None:
        """Let groups join, all in one configuration; waits for their servers to answer."""
        groups = [f"{gid}={','.join(self.servers(gid))}" for gid in gids]
        self.told("join", *groups)

    def told(self, *words: str) -> str:
        """What ``twisted-kv`` says to a command.

        Raises:
            Failed: it exits with another status than 0.
        """
        dialled = [word for endpoint in self.endpoints() for word in ("-c", endpoint)]
        command = python("twisted_kv.admin", *dialled, f"--timeout={PATIENCE_SECONDS:g}", "--json", *words)
        asked = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE_SECONDS, check=False)
        if asked.returncode != 0:
            raise Failed(f"twisted-kv {words[0]}: {asked.stderr.strip()}")
        return asked.stdout

    def status(self) -> Any:
        """What ``twisted-kv --json status`` says."""
        return json.loads(self.told("status"))

    def leader(self, gid: int) -> str:
        """The name of the process that leads a group.

        Raises:
            Failed: nobody says so.
        """
        for member in self.status()["groups"][str(gid)]:
            if member["role"] == "leader":
                return _process(f"group-{gid}", member["node"])
        raise Failed(f"no member of group {gid} leads")


def _commands(name: str, service: list[str], ports: Sequence[int], directory: Path) -> dict[str, list[str]]:
    peers = [f"--peer={node}=tcp:127.0.0.1:{port}" for node, port in enumerate(ports, 1)]
    return {
        _process(name, node): [
            *[*twistd(), "--nodaemon", "--pidfile=", *service, f"--node={node}", *peers],
            *[f"--data={directory / _process(name, node)}", f"--listen=tcp:{port}:interface=127.0.0.1"],
        ]
        for node, port in enumerate(ports, 1)
    }


def _process(name: str, node: int) -> str:
    """The name of a server's process, and of its directory."""
    return f"{name}-{node}"

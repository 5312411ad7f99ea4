"""Redis: one server, its append-only file fsynced before every answer. Nothing is replicated: a ceiling, no rival."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import ClassVar

from benchmarks.children import Children
from benchmarks.peers.peer import Missing, Peer, first_line, python
from benchmarks.tasks import Task
from twisted_kv.admin.cluster import free_ports


class Redis(Peer):
    """redis-server with ``appendfsync always`` and no snapshots."""

    name: ClassVar[str] = "redis"
    title: ClassVar[str] = "Redis, appendfsync always"
    promises: ClassVar[str] = "1 server, fsynced"

    def __init__(self) -> None:
        [self._port] = free_ports(1)
        self._server = ""

    def prepare(self, directory: Path) -> str:
        beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        server = shutil.which("redis-server", path=beside)
        if server is None:
            raise Missing("no redis-server: apt-get install redis-server")
        self._server = server
        return first_line([server, "--version"])

    def start(self, children: Children, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        command = [self._server, "--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(directory)]
        command += ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--daemonize", "no"]
        children.start("redis", command)

    def endpoints(self) -> tuple[str, ...]:
        return (f"tcp:127.0.0.1:{self._port}",)

    def load(self, task: Task) -> list[str]:
        return python("benchmarks.loads.resp", task.as_argument())

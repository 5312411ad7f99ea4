"""Physical limits: what the disk allows to whoever fsyncs, and what Perspective Broker costs with nothing behind."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import ClassVar

import twisted
from benchmarks.children import Children
from benchmarks.peers.peer import Peer, python
from benchmarks.tasks import Row, Task
from twisted_kv.admin.cluster import free_ports


class Fsync(Peer):
    """One process that makes values durable, and does nothing else."""

    name: ClassVar[str] = "fsync"
    title: ClassVar[str] = "raw append, fsync"
    promises: ClassVar[str] = "all clients share each fsync"
    keeps: ClassVar[bool] = False
    how: ClassVar[str] = "append"

    def __init__(self) -> None:
        self._directory = ""

    def prepare(self, directory: Path) -> str:
        return f"os of Python {platform.python_version()}"

    def start(self, children: Children, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = str(directory)

    def endpoints(self) -> tuple[str, ...]:
        return (self._directory,)

    def load(self, task: Task) -> list[str]:
        return python("benchmarks.loads.fsync", task.as_argument(), self.how)

    def refusal(self, row: Row) -> str | None:
        if row.kind == "get":
            return "nothing is read"
        return "no connections: see the row with one" if row.connections > 1 else None


class Overwrite(Fsync):
    """The same in a file whose size never changes."""

    name: ClassVar[str] = "fdatasync"
    title: ClassVar[str] = "raw overwrite, fdatasync"
    promises: ClassVar[str] = "all clients share each fdatasync"
    how: ClassVar[str] = "overwrite"


class Echo(Peer):
    """Two processes and a call with the value there and back."""

    name: ClassVar[str] = "echo"
    title: ClassVar[str] = "raw PB echo"
    promises: ClassVar[str] = "nothing is kept"
    keeps: ClassVar[bool] = False

    def __init__(self) -> None:
        [self._port] = free_ports(1)

    def prepare(self, directory: Path) -> str:
        return f"Twisted {twisted.__version__}, Python {platform.python_version()}"

    def start(self, children: Children, directory: Path) -> None:
        children.start("echo", python("benchmarks.loads.echo", "serve", str(self._port)))

    def endpoints(self) -> tuple[str, ...]:
        return (f"tcp:127.0.0.1:{self._port}",)

    def load(self, task: Task) -> list[str]:
        return python("benchmarks.loads.echo", task.as_argument())

    def refusal(self, row: Row) -> str | None:
        return "it carries the value both ways already: see put" if row.kind == "get" else None

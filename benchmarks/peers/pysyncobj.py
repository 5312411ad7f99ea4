"""PySyncObj: three replicas of a dictionary, with a journal."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import ClassVar, Final

from benchmarks.children import Children
from benchmarks.peers.peer import Missing, Peer, python
from benchmarks.tasks import Row, Task
from twisted_kv.admin.cluster import free_ports

REPLICAS: Final = 3
MODULE: Final = "benchmarks.loads.replicated_dict"


class PySyncObj(Peer):
    """PySyncObj with a journal file; nothing in it ever calls fsync."""

    name: ClassVar[str] = "pysyncobj"
    title: ClassVar[str] = "PySyncObj"
    promises: ClassVar[str] = "3 replicas, journal never synced"

    def __init__(self) -> None:
        self._addresses = [f"127.0.0.1:{port}" for port in free_ports(REPLICAS)]

    def prepare(self, directory: Path) -> str:
        try:
            return version("pysyncobj")
        except PackageNotFoundError:
            raise Missing("no PySyncObj: pip install pysyncobj") from None

    def start(self, children: Children, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        for node, own in enumerate(self._addresses, 1):
            others = [address for address in self._addresses if address != own]
            command = python(MODULE, "serve", own, *others, str(directory / f"journal-{node}"))
            children.start(f"pysyncobj-{node}", command)

    def endpoints(self) -> tuple[str, ...]:
        return tuple(self._addresses)

    def load(self, task: Task) -> list[str]:
        return python(MODULE, task.as_argument())

    def refusal(self, row: Row) -> str | None:
        if row.kind == "get":
            return "it has no linearizable read: reads are local"
        if row.connections > 1:
            return "it has no clients: each connection would be a member that is sent the whole log"
        return None

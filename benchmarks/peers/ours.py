"""Ours: one group of three kv-group processes, and one controller, each its own twistd."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

from benchmarks.children import Children
from benchmarks.peers.cluster import Cluster, version
from benchmarks.peers.peer import Replicated, python
from benchmarks.tasks import Task

GID: Final = 100


class Ours(Replicated):
    """twisted-kv with the settings it has by default."""

    name: ClassVar[str] = "ours"
    title: ClassVar[str] = "twisted-kv"
    promises: ClassVar[str] = "3 replicas, fsynced by a majority"

    def __init__(self) -> None:
        self._cluster = Cluster([GID])

    def prepare(self, directory: Path) -> str:
        return version()

    def commands(self, directory: Path) -> dict[str, list[str]]:
        return self._cluster.commands(directory)

    def leader(self) -> str:
        return self._cluster.leader(GID)

    def joined(self, children: Children) -> None:
        self._cluster.join([GID])

    def endpoints(self) -> tuple[str, ...]:
        return self._cluster.endpoints()

    def servers(self) -> tuple[str, ...]:
        """Of the group, in the order of their nodes."""
        return self._cluster.servers(GID)

    def members(self) -> tuple[str, ...]:
        """The names of their processes, in the same order."""
        return self._cluster.members(GID)

    def load(self, task: Task) -> list[str]:
        return python("benchmarks.loads.ours", task.as_argument())

"""What a system is to the run: a name, what it promises, how it is started and how it is asked.

Knows no system, and nothing of rounds and figures.
"""

from __future__ import annotations

import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from benchmarks.children import Children
from benchmarks.tasks import Row, Task


class Missing(Exception):
    """The system cannot be started here; the text says why, and what to install."""


class Peer(ABC):
    """A system under load.

    Attributes:
        name: on the command line and in every file.
        title: in tables.
        promises: what an acknowledgement means, in a few words; not the same for all, so it stands in the table.
        keeps: what is put can be read; what keeps nothing is not filled.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    promises: ClassVar[str]
    keeps: ClassVar[bool] = True

    @abstractmethod
    def prepare(self, directory: Path) -> str:
        """Find or build what it takes.

        Args:
            directory: a place for what is built.
        Returns:
            the versions of what will be measured.
        Raises:
            Missing: something is not here.
        """

    @abstractmethod
    def start(self, children: Children, directory: Path) -> None:
        """Start its servers, which need not answer yet; the same directory again continues with its data.

        Raises:
            Failed: a process would not start.
        """

    def joined(self, children: Children) -> None:
        """What is to be done once after the first start; nothing, for most."""
        return

    @abstractmethod
    def load(self, task: Task) -> list[str]:
        """The command of a load process."""

    @abstractmethod
    def endpoints(self) -> tuple[str, ...]:
        """Of its servers, as its load takes them."""

    def refusal(self, row: Row) -> str | None:
        """Why this row says nothing of it, or None."""
        return None


class Replicated(Peer):
    """A system of several servers of which one leads at a time."""

    @abstractmethod
    def commands(self, directory: Path) -> dict[str, list[str]]:
        """Name of a process → the command that starts it; the same directory again continues with its data."""

    @abstractmethod
    def leader(self) -> str:
        """The name of the process that leads.

        Raises:
            Failed: nobody says so.
        """

    def start(self, children: Children, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        for name, command in self.commands(directory).items():
            children.start(name, command)


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module on this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def first_line(command: list[str]) -> str:
    """What a program says of its version."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    lines = (ended.stdout or ended.stderr).splitlines()
    return lines[0].strip() if lines else "?"

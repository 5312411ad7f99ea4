"""A power cut while a directory is opened: what was not synced by then is lost, names one by one.

A file made, renamed or deleted has its new name for good when the directory was synced after it, and its content when
the file was. Until then the power may take either (hazard 35; POSIX promises no more). The files of SQLite that appear
meanwhile are names like others; that it syncs the directory for them is not believed, as it goes on if that fails.

It watches the calls of ``storage.directory`` and cuts the power at one of its syncs, right before it. It decides which
names go, by dice; what a directory in use loses is in ``damage``.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final
from unittest.mock import patch

from twisted_kv.storage import directory

MOMENTS_MAX: Final = 7
"""Syncs of an opening that makes the directory; the power fails at one of so many, or not at all."""

_MEMORY: Final = "-shm"
"""Shared by processes, never synced, and made anew by whoever opens."""


class PowerFailed(BaseException):
    """The program does not go on; nobody but the one who cut the power catches it."""


def cut_while_opening(path: str, random: Random, opened: Callable[[], Any]) -> int:
    """Open a directory, and let the power fail meanwhile.

    Args:
        opened: opens it by the production code; what it gives is closed if the power has not failed before.
    Returns:
        how many names were lost, or came back.
    """
    watching = _Watching(path, 1 + int(random.random() * MOMENTS_MAX))
    try:
        with patch.object(directory, "os", watching):
            opened().close()
    except PowerFailed:
        return watching.lose(random)
    return 0


class _Watching:
    """The module ``os`` for one opening, until the power fails."""

    def __init__(self, path: str, moment: int) -> None:
        self._path = path
        self._moments_left = moment
        self._paths: dict[int, str] = {}
        self._unsynced: dict[str, None] = {}
        self._changes: list[tuple[str, Callable[[], None]]] = []
        self._synced_names: set[str] = set(os.listdir(path)) if os.path.isdir(path) else set()
        self._lay: Mapping[str, bytes] = {}

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        is_new = flags & os.O_CREAT and not os.path.lexists(path)
        descriptor = os.open(path, flags, mode)
        self._paths[descriptor] = path
        if is_new:
            self._changed(path, lambda: _remove(path))
        if flags & os.O_TRUNC:
            self._unsynced[path] = None
        return descriptor

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        os.mkdir(path, mode)
        self._changed(path, lambda: _remove(path))

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)
        self._changed(target, lambda: _rename(target, source))

    def unlink(self, path: str) -> None:
        content = _read(path)
        os.unlink(path)
        self._changed(path, lambda: _write(path, content))

    def fsync(self, descriptor: int) -> None:
        self._moments_left -= 1
        if not self._moments_left:
            self._lay = {name: _read(os.path.join(self._path, name)) for name in self._listed()}
            raise PowerFailed
        os.fsync(descriptor)
        path = self._paths[descriptor]
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            self._changes = [change for change in self._changes if os.path.dirname(change[0]) != path]
            if path == self._path:
                self._synced_names = set(self._listed())
        else:
            self._unsynced.pop(path, None)

    def lose(self, random: Random) -> int:
        """Put the files back as they lay, and lose what the dice say; how many names."""
        if not os.path.isdir(self._path):
            return 0
        for name in os.listdir(self._path):
            os.unlink(os.path.join(self._path, name))
        for name, content in self._lay.items():
            _write(os.path.join(self._path, name), content)
        for path in self._unsynced:
            if os.path.lexists(path):
                os.truncate(path, int(random.random() * (os.path.getsize(path) + 1)))
        told = {os.path.basename(path) for path, _ in self._changes}
        for name in sorted(set(self._lay) - self._synced_names - told):
            path = os.path.join(self._path, name)
            self._changed(path, lambda path=path: _remove(path))  # type: ignore[misc]
        lost = [undo for _, undo in reversed(self._changes) if random.random() < 0.5]
        for undo in lost:
            undo()
        return len(lost)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _changed(self, path: str, undo: Callable[[], Any]) -> None:
        self._changes.append((path, undo))

    def _listed(self) -> list[str]:
        if not os.path.isdir(self._path):
            return []
        return sorted(name for name in os.listdir(self._path) if not name.endswith(_MEMORY))


def _rename(source: str, target: str) -> None:
    if os.path.lexists(source):
        os.rename(source, target)


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: str, content: bytes) -> None:
    if os.path.isdir(os.path.dirname(path)):
        with open(path, "wb") as file:
            file.write(content)

"""Room held back on the disk, so that a full one can still be cleared.

With a full disk SQLite cannot even delete: a trim has to be logged before it frees anything, while a tiny vote still
fits (hazard 28). Giving the ballast up buys that room. Decides nothing about when; knows no database.
"""

from __future__ import annotations

import os

from twisted_kv.constants import KIB
from twisted_kv.storage.faults import is_disk_full


class Ballast:
    """A file of real blocks.

    Args:
        path: where it stands; the directory exists.
        size: bytes to hold back; 0 holds nothing and is always held.
    """

    def __init__(self, path: str, size: int) -> None:
        self._path = path
        self._size = size

    @property
    def held(self) -> bool:
        """Whether the room is held back now."""
        try:
            return os.stat(self._path).st_size >= self._size
        except FileNotFoundError:
            return self._size == 0

    def reserve(self) -> bool:
        """Hold the room back; False when the disk has not enough to give."""
        if self.held:
            return True
        try:
            self._take()
        except OSError as error:
            if not is_disk_full(error):
                raise
            return False
        return True

    def _take(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _fill(descriptor, self._size)
            os.fsync(descriptor)
        except OSError:
            os.unlink(self._path)
            raise
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Give the room to whoever writes next."""
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            return
        descriptor = os.open(os.path.dirname(self._path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)  # only then may a journaling file system hand the blocks out again
        finally:
            os.close(descriptor)


def _fill(descriptor: int, size: int) -> None:
    # Written, not merely declared: not every file system can allocate without writing, none refuses to write.
    written = 0
    while written < size:
        written += os.write(descriptor, bytes(min(size - written, 64 * KIB)))

"""Decides whether a write-ahead log that SQLite left behind has lost commits to damage.

SQLite reads a -wal file up to the first frame whose checksum fails and takes all that follows for an unfinished
write. After a power cut that is right for the last transaction; after a flipped bit further up it silently drops
commits that were durable, and integrity_check still says ok (hazard 34). With synchronous=FULL a transaction is
written only after the one before is durable, so what stands *validly behind a commit* proves that commit.

Refuses to judge: the very last transaction (a torn write looks the same), and a file cut off at a frame, which is a
valid shorter log.

A checksum takes 4 µs for each 16 bytes of Python's time, and a checkpoint of rows may leave 200 MiB; so what SQLite
has found right is not looked at again, and what follows only if a commit can be in it.

Source: https://sqlite.org/fileformat2.html section 4; https://sqlite.org/walformat.html section 2; hazard 34. Pure:
bytes in, words out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from mmap import mmap

_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_INDEX_HEADER_BYTES = 48
_MAGIC = 0x377F0682  # with the lowest bit set, checksums read words big endian
_WORD = 0xFFFFFFFF

Sum = tuple[int, int]


def accepted(index: bytes) -> int:
    """How many frames SQLite has accepted, by the head of the -shm file; 0 where it does not say.

    Args:
        index: the first 96 bytes, as a recovery has left them: the same 48 twice, in the order of this machine.

    >>> accepted(b"")
    0
    """
    head = index[:_INDEX_HEADER_BYTES]
    if len(head) < _INDEX_HEADER_BYTES or head != index[_INDEX_HEADER_BYTES : 2 * _INDEX_HEADER_BYTES] or not head[12]:
        return 0
    (frames,) = struct.unpack_from("=I", head, 16)
    return int(frames)


def damage(wal: bytes | mmap, right: int = 0) -> str | None:
    """What is wrong with the bytes of a -wal file, or None when SQLite will lose nothing that was durable.

    Args:
        right: so many frames at its beginning are known to be right.

    >>> damage(b"") is None
    True
    """
    if len(wal) < _HEADER_BYTES + _FRAME_HEADER_BYTES:
        return None
    magic, _version, page_bytes, _sequence, salt, other_salt, *stored = struct.unpack_from(">8I", wal)
    words = struct.unpack_from(">6I" if magic & 1 else "<6I", wal)
    if magic & ~1 != _MAGIC or _checksum(words, (0, 0)) != tuple(stored):
        # A restarted log has new salts before it has frames, so a first frame that shares one belongs to this header.
        first = struct.unpack_from(">2I", wal, _HEADER_BYTES + 8)
        shares = salt == first[0] or other_salt == first[1]
        return "its header is damaged" if shares else None
    frames = _Frames(wal, page_bytes, bool(magic & 1), (salt, other_salt))
    right = min(right, len(frames))
    if not frames.may_be_durable_behind(right):
        return None
    reached: Sum = frames.stored(right - 1) if right else (stored[0], stored[1])
    for number in range(right, len(frames)):
        computed = frames.computed(number, reached)
        if computed != frames.stored(number):
            lost = frames.durable_behind(number, computed)
            return f"frame {number + 1} is damaged, and a commit stands behind it" if lost else None
        reached = computed
    return None


class _Frames:
    """The frames of a log, each a page that changed; a checksum continues that of the frame before."""

    def __init__(self, wal: bytes | mmap, page_bytes: int, big_endian: bool, salts: tuple[int, int]) -> None:
        self._wal = wal
        self._salts = salts
        self._bytes = _FRAME_HEADER_BYTES + page_bytes
        order = ">" if big_endian else "<"
        self._head = struct.Struct(f"{order}2I")
        self._page = struct.Struct(f"{order}{page_bytes // 4}I")

    def __len__(self) -> int:
        return (len(self._wal) - _HEADER_BYTES) // self._bytes

    def stored(self, number: int) -> Sum:
        """The checksum that the frame carries."""
        first, second = struct.unpack_from(">2I", self._wal, self._at(number) + 16)
        return first, second

    def computed(self, number: int, before: Sum) -> Sum | None:
        """The checksum that the frame should carry behind ``before``; None if it is of another log."""
        at = self._at(number)
        if struct.unpack_from(">2I", self._wal, at + 8) != self._salts:
            return None
        head = _checksum(self._head.unpack_from(self._wal, at), before)
        return _checksum(self._page.unpack_from(self._wal, at + _FRAME_HEADER_BYTES), head)

    def may_be_durable_behind(self, first: int) -> bool:
        """Whether some frame from ``first`` on says that it ends a transaction, and the next one is of this log."""
        return any(
            self._commits(number) and struct.unpack_from(">2I", self._wal, self._at(follower) + 8) == self._salts
            for number, follower in pairwise(range(first, len(self)))
        )

    def durable_behind(self, bad: int, computed: Sum | None) -> bool:
        """Whether some frame from ``bad`` on ends a transaction and is followed by a valid one.

        The follower has to continue that very commit: pages of a transaction that was rolled back can lie behind
        the end of the log with sums that are right among themselves.
        """
        for number, follower in pairwise(range(bad, len(self))):
            if self._commits(number) and any(
                self.computed(follower, before) == self.stored(follower) for before in self._ends(number, bad, computed)
            ):
                return True
        return False

    def _ends(self, number: int, bad: int, computed: Sum | None) -> Iterator[Sum]:
        yield self.stored(number)
        if number == bad and computed is not None:
            yield computed  # the flipped bit may be in the stored sum itself

    def _commits(self, number: int) -> bool:
        (pages_after,) = struct.unpack_from(">I", self._wal, self._at(number) + 4)
        return bool(pages_after)

    def _at(self, number: int) -> int:
        return _HEADER_BYTES + number * self._bytes


def _checksum(words: Sequence[int], before: Sum) -> Sum:
    first, second = before
    pairs = iter(words)
    for even, odd in zip(pairs, pairs, strict=True):
        first = (first + even + second) & _WORD
        second = (second + odd + first) & _WORD
    return first, second

"""A campaign: many thousands of lives, over as many sittings as it takes, written down in one file.

Decides what is still to be lived and what is recorded. The file has one JSON object a line, each of a stretch of
seeds that one program lived by one plan; what was lived by another program (``program``: a digest of its source)
stays, and counts for that one only. A line is written when its stretch is done, or what there is of it when somebody
interrupts; one that was cut off in the middle is left out. It reads no clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

import twisted_kv
from twisted_kv.simulation.lives.reports import Report
from twisted_kv.simulation.lives.run import lives, spans
from twisted_kv.simulation.lives.tally import Tally

STRETCH: Final = 50


class Unusable(Exception):
    """The file is no campaign, or cannot be read or written; the text says which, and why."""


class Record(msgspec.Struct):
    """What became of a stretch of seeds.

    Attributes:
        program: ``program_digest`` of what lived them.
        plan: name, or "all".
        seeds: (first, last) of each unbroken row that was lived.
        seconds: how long it took.
    """

    program: str
    plan: str
    seeds: list[tuple[int, int]]
    seconds: float
    tally: Tally


def program_digest() -> str:
    """Twelve hex digits that stand for all of this package's source."""
    root = Path(twisted_kv.__file__).parent
    sha = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        sha.update(f"{path.relative_to(root).as_posix()}\n".encode())
        sha.update(path.read_bytes())
    return sha.hexdigest()[:12]


def read(file: Path) -> list[Record]:
    """All that is on record; a file that is not there has nothing.

    Raises:
        Unusable: a line is no record; the file is another kind of file, or cannot be read.
    """
    if not file.exists():
        return []
    try:
        text = file.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        return [msgspec.json.decode(line, type=Record) for line in whole.splitlines()]
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        raise Unusable(f"{file} is no campaign: {error}") from None
    except OSError as error:
        raise Unusable(f"{file}: {error.strerror}") from None


def to_live(records: Sequence[Record], program: str, plan: str, first: int, count: int) -> Iterator[int]:
    """The seeds of a campaign that this program has not lived by this plan."""
    lived = [span for record in records if (record.program, record.plan) == (program, plan) for span in record.seeds]
    for seed in range(first, first + count):
        if not any(low <= seed <= high for low, high in lived):
            yield seed


class Campaign:
    """Goes on where the file ends.

    Args:
        seconds: a clock that does not go back.
    """

    def __init__(self, file: Path, plan: str, seconds: Callable[[], float]) -> None:
        self._file = file
        self._plan = plan
        self._seconds = seconds
        self._program = program_digest()

    def left(self, first: int, count: int) -> list[int]:
        """The seeds still to be lived; from now on the file is there.

        Raises:
            Unusable: as ``read``, or nothing could be written down.
        """
        self._append(b"")
        return list(to_live(read(self._file), self._program, self._plan, first, count))

    def tally(self) -> Tally:
        """What all that this program has lived by this plan came to."""
        *_, tally = by_program(read(self._file)).get((self._program, self._plan), (Tally(),))
        return tally

    def lives(self, seeds: Sequence[int], jobs: int, wanted: Callable[[], bool]) -> Generator[Report]:
        """Live the seeds, stretch by stretch, and write each down.

        Args:
            seeds, jobs, wanted: as run.lives.
        Raises:
            Unusable: a stretch cannot be written down.
        """
        following = iter(seeds)
        while stretch := list(islice(following, STRETCH)):
            if not wanted():
                return
            tally, lived, began = Tally(), list[int](), self._seconds()
            try:
                for report in lives(stretch, self._plan, jobs, wanted):
                    tally.count(report)
                    lived.append(report.seed)
                    yield report
            finally:
                if lived:
                    self._write(Record(self._program, self._plan, list(spans(lived)), self._seconds() - began, tally))

    def _write(self, record: Record) -> None:
        self._mend()
        self._append(msgspec.json.encode(record) + b"\n")

    def _append(self, line: bytes) -> None:
        try:
            with self._file.open("ab") as file:
                file.write(line)
        except OSError as error:
            raise Unusable(f"{self._file}: {error.strerror}") from None

    def _mend(self) -> None:
        """Cut off the beginning of a line that was never finished."""
        if self._file.exists():
            text = self._file.read_bytes()
            if not text.endswith(b"\n"):
                self._file.write_bytes(text[: text.rfind(b"\n") + 1])


def by_program(records: Sequence[Record]) -> dict[tuple[str, str], tuple[list[tuple[int, int]], float, Tally]]:
    """(program, plan) → the seeds that were lived, the seconds it took, what it came to; who lived last comes last."""
    found: dict[tuple[str, str], tuple[list[tuple[int, int]], float, Tally]] = {}
    for record in records:
        seeds, seconds, tally = found.pop((record.program, record.plan), ([], 0.0, Tally()))
        tally.add(record.tally)
        found[record.program, record.plan] = ([*seeds, *record.seeds], seconds + record.seconds, tally)
    return {name: (_joined(seeds), seconds, tally) for name, (seeds, seconds, tally) in found.items()}


def _joined(seeds: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(seeds):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined

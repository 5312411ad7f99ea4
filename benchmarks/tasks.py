"""What is measured: rows of the table, the task of a load process, and what a load process says of it.

Decides which rows a choice of clients makes, and which of them have a goal. A row is the same for every system.
Knows no system.

Source: the table of goals; a figure of one run is only compared with figures of the same run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

Kind = Literal["ready", "fill", "put", "get"]

PATIENCE_SECONDS: Final = 60.0
"""How long a system may take to serve, and a load to end after its time."""

GAP_SECONDS: Final = 0.02
"""From here on it is noted that no operation of a load was answered."""

GOALS: Final = {
    ("put", 1, 1): 1.0,
    ("put", 64, 1): 4.0,
    ("put", 256, 1): 6.0,
    ("put", 64, 64): 1.5,
    ("get", 256, 1): 5.0,
}
"""(kind, clients, connections) → the multiple of etcd's figure that ours shall reach."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        clients: operations in flight, each its own closed loop, all in one process.
        connections: client objects with a connection each that share them.
    """

    kind: Literal["put", "get"]
    clients: int
    connections: int = 1

    @property
    def name(self) -> str:
        """Short, and the same in every file.

        >>> Row("put", 64, 64).name
        'put 64x64'
        """
        return f"{self.kind} {self.clients}" + (f"x{self.connections}" if self.connections > 1 else "")

    @property
    def title(self) -> str:
        """For people."""
        who = "1 client" if self.clients == 1 else f"{self.clients} clients"
        where = f"{self.connections} connections" if self.connections > 1 else "one connection"
        return f"{'put' if self.kind == 'put' else 'linearizable get'}, {who}, {where}"

    @property
    def goal(self) -> float | None:
        """The multiple of etcd's figure that ours shall reach, where there is one."""
        return GOALS.get((self.kind, self.clients, self.connections))


def rows_of(clients: Sequence[int]) -> list[Row]:
    """Puts by each number of clients; by the middle one with a connection each; gets by the highest.

    >>> [row.name for row in rows_of([1, 64, 256])]
    ['put 1', 'put 64', 'put 256', 'put 64x64', 'get 256']
    """
    ranked = sorted(set(clients))
    middle = ranked[len(ranked) // 2]
    many = [Row("put", middle, middle)] if middle > 1 else []
    return [*(Row("put", count) for count in ranked), *many, Row("get", ranked[-1])]


@dataclass(frozen=True)
class Task:
    """What a load process is to do, as it stands in its argument.

    Attributes:
        endpoints: of the servers, in the words of the system.
        kind: "ready": one put, tried until it is acknowledged. "fill": every key once, however is fastest.
        warmup_seconds: of the same load, before anything counts.
        patience_seconds: for "ready", and for what is in flight at the end.
    """

    endpoints: tuple[str, ...]
    kind: Kind
    clients: int = 1
    connections: int = 1
    seconds: float = 0.0
    warmup_seconds: float = 0.0
    patience_seconds: float = PATIENCE_SECONDS
    keys: int = 1
    value_bytes: int = 256
    seed: int = 0

    def as_argument(self) -> str:
        """The one argument of a load process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, text: str) -> Task:
        """The reverse."""
        fields = json.loads(text)
        return cls(**{**fields, "endpoints": tuple(fields["endpoints"])})


@dataclass(frozen=True)
class Outcome:
    """What a load process says in its last line.

    Attributes:
        seconds: that were counted.
        cpu_seconds: that the load process itself used in them.
        latencies_us: of every operation that was answered in them, in microseconds.
        errors: operations that failed.
        gaps: (from, to), in seconds since 1970: longer than GAP_SECONDS without a single answer.
    """

    seconds: float
    cpu_seconds: float
    latencies_us: list[int]
    errors: int = 0
    first_error: str = ""
    gaps: list[list[float]] = field(default_factory=list)

    def as_line(self) -> str:
        """The last line of a load process."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> Outcome:
        """The reverse.

        Raises:
            ValueError: it is no such line.
        """
        try:
            fields: Any = json.loads(line)
            return cls(**fields)
        except (json.JSONDecodeError, TypeError) as error:
            raise ValueError(f"not the outcome of a load: {line[:80]!r} ({error})") from None

"""No system at all: write values to a file and sync it. ``python -m benchmarks.loads.fsync TASK append|overwrite``.

Appending makes a file longer, which the file system has to write down at each fsync, too. Overwriting what was written
before and fdatasync is what a log in a preallocated file does, and the cheapest durable write there is. All clients of
the task share each sync, which is the best that group commit can do: together, what one disk allows to anybody who
syncs before acknowledging. The only endpoint of the task is a directory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Final

from benchmarks.loads.closed_loop import cpu_seconds
from benchmarks.tasks import Outcome, Task

FILE_BYTES: Final = 8 * 2**20


def measured(task: Task, overwriting: bool) -> Outcome:
    """Write the values of all clients, sync, and so on."""
    batch = b"v" * (task.value_bytes * task.clients)
    path = Path(task.endpoints[0]) / "fsync"
    write = overwrites(path, batch) if overwriting else appends(path, batch)
    latencies: list[int] = []
    try:
        _until(perf_counter() + task.warmup_seconds, write, [])
        print("begin", flush=True)
        cpu = cpu_seconds()
        began = perf_counter()
        _until(began + task.seconds, write, latencies)
        seconds = perf_counter() - began
        cpu = cpu_seconds() - cpu
        print("end", flush=True)
    finally:
        path.unlink()
    return Outcome(seconds, cpu, [latency for latency in latencies for _ in range(task.clients)])


def appends(path: Path, batch: bytes) -> Callable[[], None]:
    """Each call makes the file longer by a batch, and durable."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write() -> None:
        os.write(file, batch)
        os.fsync(file)

    return write


def overwrites(path: Path, batch: bytes) -> Callable[[], None]:
    """Each call overwrites the next part of a file of one size, from its begin again at its end."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    size = max(FILE_BYTES // len(batch), 1) * len(batch)
    os.pwrite(file, b"0" * size, 0)
    os.fsync(file)
    offsets = cycle(range(0, size, len(batch)))

    def write() -> None:
        os.pwrite(file, batch, next(offsets))
        os.fdatasync(file)

    return write


def _until(ends: float, write: Callable[[], None], latencies: list[int]) -> None:
    while (asked := perf_counter()) < ends:
        write()
        latencies.append(int(1_000_000 * (perf_counter() - asked)))


def main() -> None:
    """As the command line says."""
    task = Task.from_argument(sys.argv[1])
    outcome = measured(task, sys.argv[2] == "overwrite") if task.kind == "put" else Outcome(0.0, 0.0, [])
    print(outcome.as_line(), flush=True)


if __name__ == "__main__":
    main()

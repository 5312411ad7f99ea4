"""PySyncObj: a replicated dictionary, and the load on it.

``python -m benchmarks.loads.replicated_dict serve SELF PARTNER PARTNER JOURNAL`` is a replica,
``python -m benchmarks.loads.replicated_dict TASK`` the load. PySyncObj has no clients: who is no replica joins as a
read-only member, hands its commands to the leader, and is sent the whole log. So the load is such a member, and there
is one of it only.

Source: PySyncObj's SyncObjConf, 0.3.17. ``appendEntriesUseBatch`` is off, for on, every command waits for the next
period of 0.1 s; the journal is a memory map that is never synced, and no option changes that. Without a dump file
the journal is cut all the same, and a replica that starts again has lost what was cut.
"""

from __future__ import annotations

import sys
from random import Random
from time import perf_counter
from typing import Any, Final

from pysyncobj import SyncObj, SyncObjConf, replicated

from benchmarks.loads.closed_loop import cpu_seconds, key
from benchmarks.tasks import Outcome, Task

TICK_SECONDS: Final = 0.05
FILL_TOGETHER: Final = 500


class Dictionary(SyncObj):
    """Keys and values, on every replica."""

    def __init__(self, own: str | None, others: list[str], journal: str | None) -> None:
        dump = None if journal is None else f"{journal}.dump"
        settings = {"journalFile": journal, "fullDumpFile": dump, "appendEntriesUseBatch": False}
        super().__init__(own, others, SyncObjConf(autoTick=False, **settings))
        self.values: dict[str, str] = {}

    @replicated  # type: ignore[untyped-decorator]
    def put(self, key: str, value: str) -> None:
        """One key."""
        self.values[key] = value

    @replicated  # type: ignore[untyped-decorator]
    def fill(self, first: int, last: int, value: str) -> None:
        """Keys of a range of numbers, at the price of one command."""
        for number in range(first, last):
            self.values[key(number)] = value


class Load:
    """The load: a read-only member that is ticked by hand."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._value = "v" * task.value_bytes
        self._chance = Random(task.seed)
        self._member = Dictionary(None, list(task.endpoints), None)
        self._latencies: list[int] = []
        self._errors: list[str] = []
        self._began = self._ends = 0.0
        self._flying = 0

    def ready(self) -> Outcome:
        """Returns when one put was acknowledged."""
        deadline = perf_counter() + self._task.patience_seconds
        while True:
            answers: list[Any] = []
            self._member.put("bench/ready", self._value, callback=lambda _, error, got=answers: got.append(error))
            tried = perf_counter() + 1.0
            while not answers and perf_counter() < tried:
                self._member.doTick(TICK_SECONDS)
            if answers == [0]:
                return Outcome(0.0, 0.0, [])
            if perf_counter() > deadline:
                raise TimeoutError("PySyncObj acknowledged nothing in time")

    def fill(self) -> Outcome:
        """Put every key once, many with one command."""
        began = perf_counter()
        for first in range(0, self._task.keys, FILL_TOGETHER):
            answers: list[Any] = []
            last = min(first + FILL_TOGETHER, self._task.keys)
            self._member.fill(first, last, self._value, callback=lambda _, error, got=answers: got.append(error))
            while not answers:
                self._member.doTick(TICK_SECONDS)
            if answers != [0]:
                raise RuntimeError(f"PySyncObj refused to be filled: reason {answers[0]}")
        return Outcome(perf_counter() - began, 0.0, [])

    def measure(self) -> Outcome:
        """The closed loop."""
        self._until(perf_counter() + 1.0)  # connected and told who leads
        self._began = perf_counter() + self._task.warmup_seconds
        self._ends = self._began + self._task.seconds
        for _ in range(self._task.clients):
            self._ask()
        self._until(self._began)
        print("begin", flush=True)
        cpu = cpu_seconds()
        self._until(self._ends)
        cpu = cpu_seconds() - cpu
        print("end", flush=True)
        patience = self._ends + self._task.patience_seconds
        while self._flying and perf_counter() < patience:
            self._member.doTick(TICK_SECONDS)
        lost = [f"{self._flying} puts were never answered"] * self._flying
        errors = self._errors + lost
        return Outcome(self._task.seconds, cpu, self._latencies, len(errors), errors[0] if errors else "")

    def _until(self, seconds: float) -> None:
        while (left := seconds - perf_counter()) > 0:
            self._member.doTick(min(left, TICK_SECONDS))

    def _ask(self) -> None:
        asked = perf_counter()

        def answered(_: object, error: int) -> None:
            now = perf_counter()
            self._flying -= 1
            if error:
                self._errors.append(f"PySyncObj gave reason {error}")
            elif self._began <= now <= self._ends:
                self._latencies.append(int(1_000_000 * (now - asked)))
            if now < self._ends:
                self._ask()

        self._flying += 1
        name = key(int(self._chance.random() * self._task.keys))
        self._member.put(name, self._value, callback=answered)


def serve(own: str, *others_and_journal: str) -> None:
    """Be a replica until a signal ends it."""
    *others, journal = others_and_journal
    replica = Dictionary(own, others, journal)
    while True:
        replica.doTick(TICK_SECONDS)


def main() -> None:
    """As the command line says."""
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    load = Load(Task.from_argument(sys.argv[1]))
    work = {"ready": load.ready, "fill": load.fill, "put": load.measure}
    print(work[Task.from_argument(sys.argv[1]).kind]().as_line(), flush=True)


if __name__ == "__main__":
    main()

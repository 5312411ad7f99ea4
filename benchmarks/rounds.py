"""The order of a run: A B C, A B C, …, and what is done in each turn of a system.

Decides that one system runs at a time: in its turn its servers are started, the load of every row runs once, and the
servers are stopped. Its data stay, so it is filled in the first round only. A system that fails is out of the run
from there on, with the reason; the others go on. Knows no system, and computes nothing of the samples.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import Final

from benchmarks.children import Children, Failed
from benchmarks.figures import Sample, sample_of
from benchmarks.machine import cpu_seconds_of, others_cores
from benchmarks.peers.peer import Missing, Peer
from benchmarks.tasks import PATIENCE_SECONDS, Outcome, Row, Task

FILL_SECONDS: Final = 900.0
GRACE_SECONDS: Final = 15.0
"""Beyond the patience of a load, which can say better than its end what it waited for."""


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        seconds: of each sample, after ``warmup_seconds`` of the same load.
        keys: in the store before anything is measured; operations are spread over them evenly.
    """

    rows: tuple[Row, ...]
    rounds: int
    seconds: float
    warmup_seconds: float
    keys: int
    value_bytes: int


@dataclass
class Record:
    """What came of a run, as far as it got.

    Attributes:
        versions: system → what was measured.
        reasons: system → why there is nothing, or nothing more, of it.
        refusals: (system, row) → why the row says nothing of it.
        others: of each turn, how many cores other programs used just before it.
    """

    samples: list[Sample] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    refusals: dict[tuple[str, str], str] = field(default_factory=dict)
    others: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """A run in a directory.

    Args:
        children: by which every process is started; whoever made it stops them, too.
        told: takes a line for whoever waits.
    """

    plan: Plan
    peers: Sequence[Peer]
    directory: Path
    children: Children
    record: Record
    told: Callable[[str], object]

    def go(self) -> None:
        """Everything, in order; the record is filled as it comes."""
        for peer in self.peers:
            self._prepare(peer)
        for number in range(self.plan.rounds):
            for peer in self.peers:
                if peer.name not in self.record.reasons:
                    self._turn(peer, number)

    def _prepare(self, peer: Peer) -> None:
        try:
            self.record.versions[peer.name] = peer.prepare(self.directory)
        except Missing as missing:
            self.record.reasons[peer.name] = str(missing)
            self.told(f"{peer.title}: {missing}")
        for row in self.plan.rows:
            if (refusal := peer.refusal(row)) is not None:
                self.record.refusals[peer.name, row.name] = refusal

    def _turn(self, peer: Peer, number: int) -> None:
        self.record.others.append(others_cores())
        try:
            peer.start(self.children, self.directory / peer.name)
            if number == 0:
                peer.joined(self.children)
            self._asked(peer, Task(peer.endpoints(), "ready"), PATIENCE_SECONDS)
            if number == 0 and peer.keeps:
                fill = Task(peer.endpoints(), "fill", keys=self.plan.keys, value_bytes=self.plan.value_bytes)
                filled, _ = self._asked(peer, fill, FILL_SECONDS)
                self.told(f"{peer.title}: {self.plan.keys} keys filled in {filled.seconds:.1f} s")
            for row in self.plan.rows:
                if (peer.name, row.name) not in self.record.refusals:
                    self._measure(peer, row, number)
        except Failed as failed:
            self.record.reasons[peer.name] = f"round {number + 1}: {failed}"
            self.told(f"{peer.title}: failed, {failed}")
        finally:
            self.children.stop()

    def _measure(self, peer: Peer, row: Row, number: int) -> None:
        task = Task(
            peer.endpoints(),
            row.kind,
            clients=row.clients,
            connections=row.connections,
            seconds=self.plan.seconds,
            warmup_seconds=self.plan.warmup_seconds,
            keys=self.plan.keys,
            value_bytes=self.plan.value_bytes,
            seed=number,
        )
        outcome, servers = self._asked(peer, task, PATIENCE_SECONDS)
        if not outcome.latencies_us:
            raise Failed(f"{row.name}: nothing was answered: {outcome.first_error or 'no error either'}")
        load_average = os.getloadavg()[0]
        sample = sample_of(peer.name, row.name, number, outcome, servers, load_average)
        self.record.samples.append(sample)
        self.told(f"round {number + 1}, {peer.title}, {row.name}: {sample.ops_per_second:,.0f}/s")

    def _asked(self, peer: Peer, task: Task, patience: float) -> tuple[Outcome, dict[str, float]]:
        """Run a load; its outcome, and the seconds of processor that each server used while it counted."""
        name = f"{peer.name}-load"
        servers = self.children.pids()
        process = self.children.asked(name, peer.load(task))
        stuck = _Alarm(self.children, name, patience + task.warmup_seconds + task.seconds + GRACE_SECONDS)
        marks: list[dict[str, float]] = []
        last = ""
        assert process.stdout is not None
        with stuck:
            for line in process.stdout:
                last = line.decode(errors="replace").strip()
                if last in ("begin", "end"):
                    marks.append({server: cpu_seconds_of(pid) for server, pid in servers.items()})
        status = self.children.ended(name, PATIENCE_SECONDS)
        self.children.check()
        if stuck.rang:
            raise Failed(f"the load {task.kind} took too long: {self.children.tail(name)}")
        if status != 0:
            raise Failed(f"the load {task.kind} ended with status {status}: {self.children.tail(name)}")
        try:
            outcome = Outcome.from_line(last)
        except ValueError as error:
            raise Failed(str(error)) from None
        used = {server: marks[-1][server] - marks[0][server] for server in servers} if len(marks) == 2 else {}
        return outcome, used


class _Alarm:
    """Kills a child that takes too long."""

    def __init__(self, children: Children, name: str, seconds: float) -> None:
        self.rang = False
        self._children = children
        self._name = name
        self._timer = Timer(seconds, self._ring)
        # A signal may come between its start and the block it guards: nobody turns it off then, or waits for it.
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _ring(self) -> None:
        self.rang = True
        self._children.kill(self._name)

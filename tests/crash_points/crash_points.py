"""The two hunts: every crash point of a workload, and every call of it failing once, or from then on.

A crash point stands after each call that changes something and after each acknowledgment. What a violation is,
crash_judge says; what a disk may hold, crash_disk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from crash_belief import Belief
from crash_disk import Disk, Picture
from crash_judge import Judge
from crash_recording import Call, Record, marker
from crash_run import BROKE, BY_NAME, DONE, WAITED, Fault, Run, run
from crash_workloads import Workload

VIOLATIONS_MAX: Final = 10
"""After so many in one workload there is nothing new to learn."""

_PROMISES: Final = {"done", "answered", "voted", "acked", "refused"}
_FEW_STATES: Final = 3
_HOW: Final = {call: ("EIO", "ENOSPC", "KILL", *(("HALF",) if call is Call.WRITE else ())) for call in Call}


@dataclass
class Points:
    """What the crash points of one workload showed.

    Attributes:
        states: crash point × part of what was not synced.
        opened: how many of them differ, and so were opened.
        judged: states × moments at which something was acknowledged.
        mended: in how many of those opened the second half of an install was done.
        booted: on how many of those opened a whole member was started.
        violations: what is wrong, and the options that show it again.
    """

    workload: str
    writes: int = 0
    syncs: int = 0
    points: int = 0
    states: int = 0
    opened: int = 0
    judged: int = 0
    mended: int = 0
    booted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Failures:
    """What the failing calls of one workload led to: (call, how) → how the life ended → how often."""

    workload: str
    ended: dict[str, Counter[str]] = field(default_factory=dict)
    runs: int = 0
    states: int = 0
    booted: int = 0
    violations: list[tuple[str, str]] = field(default_factory=list)


def hunt_points(name: str, scratch: Path, seed: int, states_max: int, every: int, only: int | None = None) -> Points:
    """Look at the crash points of a workload.

    Args:
        states_max: parts of what was not synced, per crash point.
        every: look at each every-th crash point only; from where on, the seed says.
        only: look at this crash point only.
    """
    workload = BY_NAME[name]
    found = Points(name)
    done = run(workload, scratch)
    if set(done.ended) != {DONE}:
        found.violations.append((f"without any fault: {done.ended} {done.why}", f"{name} --seed {seed} --every 1"))
        return found
    found.writes = sum(record.kind == "W" for record in done.log)
    found.syncs = sum(record.kind == "S" for record in done.log)
    judge = Judge(scratch, workload.machine, workload.seat)
    for point, what, belief, pictures in _crash_points(done, seed, states_max, every, only, found):
        for words, picture in pictures:
            complaint = judge.wrong(picture, belief)
            if complaint:
                if complaint.startswith("refused"):
                    found.refused[complaint] += 1
                replay = f"{name} --seed {seed} --point {point}"
                found.violations.append((f"point {point} ({what}), {words}: {complaint}", replay))
        if len(found.violations) >= VIOLATIONS_MAX:
            break
    found.opened, found.judged, found.mended, found.booted = judge.opened, judge.judged, judge.mended, judge.booted
    return found


Pictures = list[tuple[str, Picture]]


def _crash_points(
    done: Run, seed: int, states_max: int, every: int, only: int | None, found: Points
) -> Iterator[tuple[int, str, Belief, Pictures]]:
    disk, belief = Disk(), Belief()
    pictures: Pictures = []
    for record in done.log:
        if record.kind == "M":
            facts = marker(record)
            belief.take(facts)
            if facts[0] in _PROMISES and pictures:
                yield found.points, f"then {facts[0]}", belief, pictures
        elif disk.take(record):
            found.points += 1
            looked_at = found.points == only if only is not None else found.points % every == seed % every
            pictures = list(_pictures(disk, f"{seed}/{found.points}", states_max)) if looked_at else []
            found.states += len(pictures)
            if pictures:
                yield found.points, _words(record), belief, pictures


def _pictures(disk: Disk, seed: str, states_max: int) -> Iterator[tuple[str, Picture]]:
    for subset in disk.subsets(Random(seed), states_max):
        torn = "" if subset.torn is None else f", {subset.torn} only {subset.torn_from}-{subset.torn_to}"
        there = disk.described(subset)
        yield f"of {disk.pending_count} pending: {there}{torn}", disk.picture(subset)


def _words(record: Record) -> str:
    what = record.payload.decode() if record.kind in "OURD" else f"fd {record.fd} at {record.at}"
    return f"{record.kind} {what}".replace("\0", " → ")


def faults(workload: Workload, scratch: Path, call: Call, every: int, seed: int) -> Iterator[tuple[Fault, Run]]:
    """Every fault of this kind of call that a workload can meet, and what came of it: k = 1, 2, … until none failed."""
    for how in _HOW[call]:
        for for_ever in (False, True) if how in ("EIO", "ENOSPC") else (False,):
            k = 1 + seed % every
            while True:
                fault = Fault(call, k, how, for_ever)
                done = run(workload, scratch, fault)
                if not done.hit:
                    break
                yield fault, done
                k += every


def hunt_failures(name: str, scratch: Path, seed: int, every: int, call: Call, only: Fault | None = None) -> Failures:
    """Make the calls of a workload fail, one after the other.

    Args:
        every: each every-th k only.
        only: this fault only.
    """
    workload = BY_NAME[name]
    found = Failures(name)
    judge = Judge(scratch, workload.machine, workload.seat)
    chosen = faults(workload, scratch, call, every, seed) if only is None else [(only, run(workload, scratch, only))]
    for fault, done in chosen:
        found.runs += 1
        kind = f"{fault.call.name.lower()} {fault.how}{' …' if fault.for_ever else ''}"
        found.ended.setdefault(kind, Counter())[done.ended[-2]] += 1
        for complaint in _complaints(fault, done, judge, f"{seed}/{fault}"):
            again = f"{fault.call.name.lower()}:{fault.k}{'+' if fault.for_ever else ''}:{fault.how}"
            found.violations.append((f"{fault}: {complaint}", f"{name} --seed {seed} --fault {again}"))
        if len(found.violations) >= VIOLATIONS_MAX:
            break
    found.states, found.booted = judge.judged, judge.booted
    return found


def _complaints(fault: Fault, done: Run, judge: Judge, seed: str) -> Iterator[str]:
    *_, struck, after = done.ended
    if struck == WAITED and not fault.for_ever:
        yield f"{WAITED}, though there was room again: {done.why}"
        return
    if BROKE in (struck, after):
        yield done.why
        return
    if after != DONE:
        yield f"{struck}; started again: {after} {done.why}"
        return
    judge.forget_commands()
    disk, belief = Disk(), Belief()
    for record, following in zip(done.log, [*done.log[1:], None], strict=True):
        if record.kind == "M":
            belief.take(marker(record))
        else:
            disk.take(record)
        if following is None or (following.pid != record.pid and _struck(done, record)):
            for words, picture in _pictures(disk, seed, _FEW_STATES):
                complaint = judge.wrong(picture, belief)
                if complaint:
                    moment = "at the end" if following is None else "when it had ended"
                    yield f"{struck} ({done.why}); the power fails {moment}, {words}: {complaint}"
                    return


def _struck(done: Run, record: Record) -> bool:
    return any(each.kind == "F" and each.pid == record.pid for each in done.log)

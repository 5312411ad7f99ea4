"""Runs targets: draws, feeds, counts, judges time and memory; saves what breaks a rule so that it can be fed again.

Each target runs in a process of its own, so that its memory is its own and a crash is a finding like any other.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from fuzz_servers import Finding
from fuzz_targets import Target

FINDINGS_MAX = 5
GROWTH_BYTES_MAX = 256 << 20
ADDRESS_BYTES_MAX = 8 << 30
SHRINK_FEEDS_MAX = 400
SHRINK_SECONDS_MAX = 30.0

TargetType = type[Target]


@dataclass
class Tally:
    """What became of the inputs of one target."""

    name: str
    inputs: int = 0
    framed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    worst_seconds: float = 0.0
    grown_bytes: int = 0
    seconds: float = 0.0
    findings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Saved:
    """A failing input, with what has to be fed before it."""

    target: str
    seed: int
    life: int
    text: str
    inputs: list[Any]


def run(
    targets: Mapping[TargetType, int],
    seed: int,
    findings: Path,
    deadline: float,
    told: Callable[[str], None] = lambda line: None,
    apart: bool = True,
    findings_max: int = FINDINGS_MAX,
) -> list[Tally]:
    """Feed each target so many inputs.

    Args:
        seed: of everything.
        findings: directory for failing inputs; made when there are any.
        deadline: of time.monotonic().
        told: lines for people, as they come.
        apart: each target in a process of its own.
        findings_max: of one target; then the next one is taken.
    """
    tallies = []
    for target, count in targets.items():
        work = _apart if apart else _campaign
        tally = work(target, count, seed, findings, deadline, findings_max)
        tallies.append(tally)
        told(line_of(tally))
        for text in tally.findings:
            told(text)
    return tallies


def feed_again(saved: Saved, target: TargetType) -> str | None:
    """What is wrong when the saved inputs are fed to a new life; None: nothing."""
    return _wrong(target, saved.seed, saved.life, saved.inputs)


def read_saved(path: Path) -> Saved:
    """A file that a campaign has written."""
    return Saved(*msgspec.msgpack.decode(path.read_bytes()))


def line_of(tally: Tally) -> str:
    """One line of the table."""
    return (
        f"{tally.name:<9} {tally.inputs:>9,} inputs {tally.framed:>9,} framed"
        f" {tally.inputs / max(tally.seconds, 1e-9):>7,.0f}/s  worst {tally.worst_seconds * 1000:6.1f} ms"
        f"  grown {tally.grown_bytes / (1 << 20):5.0f} MiB  findings {len(tally.findings)}"
    )


def _apart(target: TargetType, count: int, seed: int, findings: Path, deadline: float, findings_max: int) -> Tally:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)

    def work() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES_MAX, ADDRESS_BYTES_MAX))
        there.send_bytes(msgspec.msgpack.encode(vars(_campaign(target, count, seed, findings, deadline, findings_max))))
        os._exit(0)

    process = context.Process(target=work)
    process.start()
    there.close()
    try:
        fields = msgspec.msgpack.decode(here.recv_bytes())
    except EOFError:
        process.join()
        return Tally(target.name, findings=[f"{target.name}: the process ended with {process.exitcode}"])
    except KeyboardInterrupt:
        process.terminate()
        process.join()
        raise
    process.join()
    return Tally(**{**fields, "reasons": Counter(fields["reasons"])})


def _campaign(target: TargetType, count: int, seed: int, findings: Path, deadline: float, findings_max: int) -> Tally:
    tally, begun, life = Tally(target.name), time.thread_time(), 0
    start = 0
    while tally.inputs < count and time.monotonic() < deadline and len(tally.findings) < findings_max:
        _live(target, min(target.life, count - tally.inputs), seed, life, tally, findings, deadline)
        life += 1
        if life == 1:
            start = resident_bytes()
    tally.grown_bytes = max(0, resident_bytes() - start)
    tally.seconds = time.thread_time() - begun
    if tally.grown_bytes > GROWTH_BYTES_MAX:
        tally.findings.append(
            f"{target.name}: the process has grown by {tally.grown_bytes >> 20} MiB over {life} lives"
        )
    return tally


def _live(kind: TargetType, count: int, seed: int, life: int, tally: Tally, findings: Path, deadline: float) -> None:
    """One life; ends with its first finding."""
    random = Random(f"{seed}/{kind.name}/{life}")
    target = kind(seed + life, life)
    history: list[Any] = []
    try:
        for _ in range(count):
            given = target.draw(random)
            history.append(given)
            before, peak = time.thread_time(), _peak_bytes()
            try:
                verdict = target.feed(given)
                seconds = time.thread_time() - before
                _judge_cost(kind, seconds, _peak_bytes() - peak)
            except Exception as error:
                tally.inputs += 1
                _save(kind, seed, life, history, error, tally, findings)
                return
            tally.inputs += 1
            tally.framed += verdict.framed
            tally.reasons[verdict.reason] += 1
            tally.worst_seconds = max(tally.worst_seconds, seconds)
            if target.worn or time.monotonic() > deadline:
                return
        try:
            target.finish()
        except Exception as error:
            _save(kind, seed, life, history, error, tally, findings)
    finally:
        target.close()


def _judge_cost(kind: TargetType, seconds: float, grown: int) -> None:
    if seconds > kind.seconds_max:
        raise Finding(f"one input took {seconds:.1f} s")
    if grown > kind.bytes_max:
        raise Finding(f"one input took {grown >> 20} MiB")


def _save(
    kind: TargetType, seed: int, life: int, history: list[Any], error: Exception, tally: Tally, findings: Path
) -> None:
    text = text_of(error)
    findings.mkdir(parents=True, exist_ok=True)
    path = findings / f"{kind.name}-{seed}-{life}-{len(history)}.bin"
    inputs = history
    _write(path, Saved(kind.name, seed + life, life, text, inputs))
    inputs = shrunk(kind, seed + life, life, history)
    _write(path, Saved(kind.name, seed + life, life, text, inputs))
    told = f"{kind.name}: {text}\n  {len(inputs)} inputs, replayed by: python tests/fuzz/run.py --replay {path}"
    tally.findings.append(told)


def _write(path: Path, saved: Saved) -> None:
    fields = [saved.target, saved.seed, saved.life, saved.text, saved.inputs]
    path.write_bytes(msgspec.msgpack.encode(fields))


def shrunk(kind: TargetType, seed: int, life: int, history: Sequence[Any]) -> list[Any]:
    """A shorter sequence that fails as well: the last input alone if it does, else without what is not needed."""
    deadline = time.monotonic() + SHRINK_SECONDS_MAX
    inputs = list(history)
    if _wrong(kind, seed, life, inputs[-1:]) is not None:
        return _shorter(kind, seed, life, inputs[-1], deadline)
    size, feeds = len(inputs) // 2, 0
    while size >= 1 and feeds < SHRINK_FEEDS_MAX and time.monotonic() < deadline:
        start = 0
        while start < len(inputs) - 1 and time.monotonic() < deadline:
            shorter = inputs[:start] + inputs[min(start + size, len(inputs) - 1) :]
            feeds += 1
            if _wrong(kind, seed, life, shorter) is not None:
                inputs = shorter
            else:
                start += size
        size //= 2
    return inputs


def _shorter(kind: TargetType, seed: int, life: int, given: Any, deadline: float) -> list[Any]:
    """One input, with its bytes cut down as long as it still fails."""
    random = Random(0)
    places = [place for place, part in enumerate(given) if type(part) is bytes] if isinstance(given, list) else []
    for place in places:
        for _ in range(SHRINK_FEEDS_MAX):
            if time.monotonic() > deadline:
                break
            data = given[place]
            start = int(random.random() * len(data))
            less = data[:start] + data[start + 1 + int(random.random() * max(1, len(data) // 4)) :]
            other = [*given[:place], less, *given[place + 1 :]]
            if len(less) < len(data) and _wrong(kind, seed, life, [other]) is not None:
                given = other
    return [given]


def _wrong(kind: TargetType, seed: int, life: int, inputs: Sequence[Any]) -> str | None:
    target = kind(seed, life)
    try:
        for given in inputs:
            before, peak = time.thread_time(), _peak_bytes()
            target.feed(given)
            _judge_cost(kind, time.thread_time() - before, _peak_bytes() - peak)
        target.finish()
    except Exception as error:
        return text_of(error)
    finally:
        target.close()
    return None


def text_of(error: Exception) -> str:
    """What a finding says; of an exception that nobody expected, where it was raised too."""
    if isinstance(error, Finding):
        return str(error)
    return "".join(traceback.format_exception(error))[-2000:]


def resident_bytes() -> int:
    """What this process holds in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

"""Leaders that end under load, again and again: how long nobody is answered, ours beside etcd in one run.

Decides the order (turns alternate: A B, A B), that a load of a few clients goes on all the while, and that in each
period the leader of that moment is sent a signal and started again a second later. Knows no system.
"""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import click

from benchmarks.children import Children, Failed
from benchmarks.command import Ended
from benchmarks.figures import percentile
from benchmarks.machine import Machine, described
from benchmarks.peers.etcd import Etcd
from benchmarks.peers.ours import Ours
from benchmarks.peers.peer import Missing, Replicated
from benchmarks.report import Table
from benchmarks.silences import Silence, Summary, silence_of
from benchmarks.tasks import PATIENCE_SECONDS, Outcome, Task

DOWN_SECONDS: Final = 1.0
"""A server is started again so long after its end."""
CALM_SECONDS: Final = 3.0
"""Before the first signal of a turn."""
KEYS: Final = 10_000
SIGNALS: Final = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM}
PEERS: Final[dict[str, type[Replicated]]] = {peer.name: peer for peer in (Ours, Etcd)}


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        rounds: turns of each system, of ``times`` signals each.
        period_seconds: from one signal to the next.
        clients: closed loops of puts that go on all the while.
    """

    rounds: int
    times: int
    signum: int
    period_seconds: float
    clients: int
    value_bytes: int

    @property
    def load_seconds(self) -> float:
        """How long the load of a turn goes on."""
        return CALM_SECONDS + self.times * self.period_seconds


@dataclass
class Record:
    """What came of a run, as far as it got.

    Attributes:
        latencies_us: system → of every put that was answered, in all turns.
        reasons: system → why there is nothing, or nothing more, of it.
    """

    silences: list[Silence] = field(default_factory=list)
    latencies_us: dict[str, list[int]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


class Run:
    """A run in a directory.

    Args:
        children: by which every process is started; whoever made it stops them, too.
        told: takes a line for whoever waits.
    """

    def __init__(
        self,
        plan: Plan,
        peers: Sequence[Replicated],
        directory: Path,
        children: Children,
        record: Record,
        told: Callable[[str], object],
    ) -> None:
        self._plan = plan
        self._peers = peers
        self._directory = directory
        self._children = children
        self._record = record
        self._told = told

    def go(self) -> None:
        """Everything, in order; the record is filled as it comes."""
        for peer in self._peers:
            try:
                self._record.versions[peer.name] = peer.prepare(self._directory)
            except Missing as missing:
                self._give_up(peer, str(missing))
        for number in range(self._plan.rounds):
            for peer in self._peers:
                if peer.name in self._record.reasons:
                    continue
                try:
                    self._turn(peer, number)
                except Failed as failed:
                    self._give_up(peer, f"round {number + 1}: {failed}")
                finally:
                    self._children.stop()

    def _give_up(self, peer: Replicated, reason: str) -> None:
        self._record.reasons[peer.name] = reason
        self._told(f"{peer.title}: {reason}")

    def _turn(self, peer: Replicated, number: int) -> None:
        directory = self._directory / peer.name
        peer.start(self._children, directory)
        if number == 0:
            peer.joined(self._children)
        self._outcome(peer, Task(peer.endpoints(), "ready"))
        signals = self._under_load(peer, directory, number)
        outcome = self._last_words(peer)
        if not outcome.latencies_us:
            raise Failed(f"nothing was answered: {outcome.first_error or 'no error either'}")
        self._record.latencies_us.setdefault(peer.name, []).extend(outcome.latencies_us)
        ends = [*signals[1:], signals[-1] + self._plan.period_seconds]
        for signalled, until in zip(signals, ends, strict=True):
            silence = silence_of(peer.name, number, signalled, until, outcome.gaps)
            self._record.silences.append(silence)
            self._told(f"round {number + 1}, {peer.title}: next answer after {silence.next_ms:,.0f} ms")

    def _under_load(self, peer: Replicated, directory: Path, number: int) -> list[float]:
        """Begin the load, and end leaders while it goes on; when each signal was sent, in seconds since 1970."""
        plan, children, signals = self._plan, self._children, []
        task = Task(
            peer.endpoints(),
            "put",
            clients=plan.clients,
            seconds=plan.load_seconds,
            keys=KEYS,
            value_bytes=plan.value_bytes,
            seed=number,
        )
        load = children.asked(f"{peer.name}-load", peer.load(task))
        assert load.stdout is not None
        if load.stdout.readline().strip() != b"begin":
            raise Failed(f"the load did not begin: {children.tail(f'{peer.name}-load')}")
        due = time.monotonic() + CALM_SECONDS
        for _ in range(plan.times):
            time.sleep(max(0.0, due - time.monotonic()))
            due += plan.period_seconds
            leader = peer.leader()
            children.signal(leader, plan.signum)
            signals.append(time.time())
            children.ended(leader, PATIENCE_SECONDS)
            time.sleep(DOWN_SECONDS)
            children.start(leader, peer.commands(directory)[leader])
        return signals

    def _outcome(self, peer: Replicated, task: Task) -> Outcome:
        self._children.asked(f"{peer.name}-load", peer.load(task))
        return self._last_words(peer)

    def _last_words(self, peer: Replicated) -> Outcome:
        """What the load says when it has ended."""
        name = f"{peer.name}-load"
        said = self._children.said(name)
        status = self._children.ended(name, PATIENCE_SECONDS)
        self._children.check()
        if status != 0 or not said:
            raise Failed(f"the load ended with status {status}: {self._children.tail(name)}")
        try:
            return Outcome.from_line(said[-1])
        except ValueError as error:
            raise Failed(str(error)) from None


def table(peers: Sequence[Replicated], record: Record) -> Table:
    """A line for each system."""
    head = ("time to the next acknowledged put, ms", "times", "median", "p90", "greatest", "longest gap", "p99 of puts")
    lines: list[tuple[str, ...]] = []
    for peer in peers:
        silences = [each for each in record.silences if each.system == peer.name]
        if not silences:
            lines.append((f"{peer.title}: {record.reasons.get(peer.name, 'nothing')}", *["–"] * 6))
            continue
        found = Summary.of(silences)
        p99 = percentile(sorted(record.latencies_us[peer.name]), 99) / 1000
        figures = (found.next_ms.median, found.p90_ms, found.next_ms.greatest, found.longest_ms, p99)
        lines.append((peer.title, str(found.count), *(f"{figure:,.0f}" for figure in figures)))
    return Table(head, lines)


def words(plan: Plan, machine: Machine, record: Record) -> str:
    """What was done, and to what."""
    name = next(name for name, signum in SIGNALS.items() if signum == plan.signum)
    about = (
        f"SIG{name} to the leader every {plan.period_seconds:g} s, {plan.rounds} × {plan.times} times, under puts of "
        f"{plan.clients} clients, {plan.value_bytes} bytes; it is started again {DOWN_SECONDS:g} s later"
    )
    versions = [f"{system}: {version}" for system, version in record.versions.items()]
    return "\n".join([*machine.lines(), about, *versions]) + "\n"


def names(_: click.Context, __: click.Parameter, text: str) -> list[str]:
    """Of systems, in the order given."""
    chosen = list(dict.fromkeys(name.strip() for name in text.split(",")))
    if unknown := [name for name in chosen if name not in PEERS]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(PEERS)}")
    return chosen


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--peers", default=",".join(PEERS), callback=names, help="Which, in the order of a round.")
@click.option("--signal", "signal_name", default="KILL", type=click.Choice([*SIGNALS]), help="What the leader is sent.")
@click.option("--rounds", default=3, type=click.IntRange(1), help="Turns of each.")
@click.option("--times", default=10, type=click.IntRange(1), help="Signals in a turn.")
@click.option("--period", default=5.0, type=click.FloatRange(2 * DOWN_SECONDS), help="Seconds between two of them.")
@click.option("--clients", default=16, type=click.IntRange(1), help="Closed loops of puts.")
@click.option("--value", default=256, type=click.IntRange(1), help="Bytes of a value.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Results; default: a new directory.")
def command(
    peers: list[str],
    signal_name: str,
    rounds: int,
    times: int,
    period: float,
    clients: int,
    value: int,
    out: Path | None,
) -> int:
    """End leaders under load, and tell how long nobody was answered.

    Results go to a directory: failover.txt, failover.md, failover.json, and what every process said.
    """
    out = Path(tempfile.mkdtemp(prefix="twisted-kv-failover-")) if out is None else out.resolve()
    servers, logs = out / "servers", out / "logs"
    shutil.rmtree(servers, ignore_errors=True)
    for directory in (servers, logs):
        directory.mkdir(parents=True, exist_ok=True)
    plan = Plan(rounds, times, SIGNALS[signal_name], period, clients, value)
    chosen = [PEERS[name]() for name in peers]
    record, children, status = Record(), Children(logs), 0
    machine = described(servers)
    try:
        Run(plan, chosen, servers, children, record, lambda line: click.echo(line, err=True)).go()
        status = 1 if record.reasons else 0
    except Ended as ended:
        status = 128 + ended.signum
        for peer in chosen:
            record.reasons.setdefault(peer.name, "the run was ended early")
    finally:
        children.stop()
        shutil.rmtree(servers, ignore_errors=True)
    about, found = words(plan, machine, record), table(chosen, record)
    (out / "failover.txt").write_text(f"{about}\n{found.text()}")
    (out / "failover.md").write_text("".join(f"- {line}\n" for line in about.splitlines()) + f"\n{found.markdown()}")
    (out / "failover.json").write_text(json.dumps(asdict(record), indent=1) + "\n")
    click.echo(f"{about}\n{found.text()}\nresults: {out}")
    return status

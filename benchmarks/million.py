"""A group of three servers that holds many keys: what a change, a start and a follower's catching up cost there.

Decides the order of what is done to the group and from which two moments each figure is taken. What is a goal, and
how looks become figures, stands in ``goals``. Knows ours alone: what it looks at, no other system says.
"""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, Final

import click

from benchmarks.children import Children, Failed
from benchmarks.command import Ended
from benchmarks.goals import TIMES_KEYS, Figure, Look, answers_per_second, first_at, longest_stall_ms, table
from benchmarks.machine import (
    BUSY_CORES,
    Machine,
    bytes_on_disk,
    cpu_seconds_of,
    described,
    memory_bytes_of,
    others_cores,
    written_bytes_of,
)
from benchmarks.peers.ours import Ours
from benchmarks.peers.peer import python
from benchmarks.tasks import PATIENCE_SECONDS, Outcome, Task

CALM_SECONDS: Final = 8.0
"""After a load, until checkpoints have been written and what was dropped has been freed."""
FILL_SECONDS: Final = 900.0
HOT_KEYS: Final = 1000
SETTLE_SECONDS: Final = 60.0
KEY_BYTES: Final = len("bench/00000000")
STALL_MS_MAX: Final = 50.0
START_SECONDS_MAX: Final = 10.0
RATE_LEAST: Final = 30.0
LOSS_MOST: Final = 20.0
COST_TIMES_MOST: Final = 2.0
"""A store of ten times the keys may let a change cost so many times as much; if cost followed the keys, ten times."""
SHARE: Final = 0.5
"""Of saturation, while a follower catches up."""


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        keys: in the store in the end.
        seconds: of each load that is measured.
        clients: closed loops of puts.
    """

    keys: int
    seconds: float
    clients: int
    value_bytes: int


@dataclass(frozen=True)
class Cost:
    """What puts cost the servers of the group together.

    Attributes:
        cpu_us, written_bytes: for each put.
        per_second: puts.
    """

    cpu_us: float
    written_bytes: float
    per_second: float


@dataclass
class Record:
    """What came of a run, as far as it got.

    Attributes:
        spans: (what was done, from, to) in seconds since 1970.
        others_cores: in use by other programs before anything was started.
        reason: why there is nothing more, or "".
    """

    figures: list[Figure] = field(default_factory=list)
    spans: list[tuple[str, float, float]] = field(default_factory=list)
    costs: dict[str, Cost] = field(default_factory=dict)
    others_cores: float = 0.0
    version: str = ""
    reason: str = ""


class Listener:
    """Keeps the lines of JSON that a process says while a run goes on.

    Attributes:
        said: oldest first; one thread adds to it.
    """

    def __init__(self, children: Children, name: str, command: list[str]) -> None:
        self.said: list[Look] = []
        process = children.asked(name, command)
        assert process.stdout is not None
        self._lines = process.stdout
        # It ends when the process has been ended, and nobody waits for it.
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._lines:
            self.said.append(json.loads(line))


class Onlooker(Listener):
    """Keeps what the servers say of themselves."""

    def __init__(self, children: Children, endpoints: tuple[str, ...]) -> None:
        super().__init__(children, "onlooker", python("benchmarks.loads.onlooker", *endpoints))

    def wait(self, place: int, since: float, there: Callable[[Mapping[str, Any]], bool], seconds: float) -> float:
        """When a server was first seen to be so, in seconds since 1970.

        Raises:
            Failed: it was not, in so many seconds.
        """
        deadline = time.time() + seconds
        while True:
            try:
                return first_at(list(self.said), place, since, there)
            except LookupError:
                if time.time() > deadline:
                    raise Failed(f"server {place + 1} did not come so far within {seconds:g} s") from None
            time.sleep(0.05)

    def newest(self, place: int) -> Mapping[str, Any]:
        """What a server said last.

        Raises:
            Failed: it said nothing.
        """
        status: Mapping[str, Any] | None = self.said[-1]["members"][place] if self.said else None
        if status is None:
            raise Failed(f"server {place + 1} does not answer")
        return status


class Run:
    """A run in a directory.

    Args:
        children: by which every process is started; whoever made it stops them, too.
        told: takes a line for whoever waits.
    """

    def __init__(
        self, plan: Plan, peer: Ours, directory: Path, children: Children, record: Record, told: Callable[[str], object]
    ) -> None:
        self._plan = plan
        self._peer = peer
        self._directory = directory / peer.name
        self._children = children
        self._record = record
        self._told = told
        self._commands = peer.commands(self._directory)
        self._servers = peer.members()

    def go(self) -> None:
        """Everything, in order; the record is filled as it comes."""
        self._record.version = self._peer.prepare(self._directory)
        self._record.others_cores = others_cores()
        try:
            self._everything()
        except Failed as failed:
            self._record.reason = str(failed)
            self._told(str(failed))
        finally:
            self._children.stop()

    def _everything(self) -> None:
        plan, peer, children = self._plan, self._peer, self._children
        few = max(plan.keys // TIMES_KEYS, 1)
        peer.start(children, self._directory)
        peer.joined(children)
        self._load(Task(peer.endpoints(), "ready"))
        self._onlooker = Onlooker(children, peer.servers())
        empty = self._memory()
        self._fill(few)
        self._puts("few keys", few)
        self._fill(plan.keys)
        self._puts("hot keys", min(HOT_KEYS, plan.keys))
        self._puts("all keys", plan.keys)
        self._costs()
        time.sleep(CALM_SECONDS)
        self._sizes(empty)
        self._restart_one()
        self._restart_all()
        self._catch_up()
        self._stalls()

    # ── what is done ───────────────────────────────────────────────────────────────────────────────

    def _fill(self, keys: int) -> None:
        with self._span(f"filling up to {keys:,} keys"):
            filled = self._load(self._task("fill", keys=keys))
        self._told(f"{keys:,} keys filled in {filled.seconds:.1f} s")

    def _puts(self, name: str, keys: int) -> None:
        """A load at saturation, and what it costs the servers from its begin to the end of the last checkpoint."""
        pids = [self._children.pids()[server] for server in self._servers]

        def used() -> tuple[float, int]:
            return sum(map(cpu_seconds_of, pids)), sum(map(written_bytes_of, pids))

        cpu, written = used()
        with self._span(f"puts, {name}"):
            outcome = self._load(self._task("put", keys=keys, seconds=self._plan.seconds))
            self._quiet()
        cpu_after, written_after = used()
        count = len(outcome.latencies_us)
        if not count:
            raise Failed(f"nothing was answered: {outcome.first_error or 'no error either'}")
        cost = Cost(1e6 * (cpu_after - cpu) / count, (written_after - written) / count, count / outcome.seconds)
        self._record.costs[name] = cost
        self._told(
            f"puts, {name}: {cost.per_second:,.0f}/s, {cost.cpu_us:.0f} µs and {cost.written_bytes:,.0f} bytes written "
            "by all servers for each"
        )

    def _restart_one(self) -> None:
        """A follower is killed and comes back to what its peers have applied meanwhile."""
        name = self._follower()
        with self._span("a follower starts"):
            seconds = self._restarted([name])
        self._tell(Figure("a killed follower serves again after, s", seconds, most=START_SECONDS_MAX))

    def _restart_all(self) -> None:
        """Nobody is left who could answer, until a majority has read its rows."""
        with self._span("all servers start"):
            for server in self._servers:
                self._kill(server)
            began = time.time()
            for server in self._servers:
                self._children.start(server, self._commands[server])
            self._load(Task(self._peer.endpoints(), "ready"))
            seconds = time.time() - began
            for place in range(len(self._servers)):
                self._onlooker.wait(place, began, _serves, SETTLE_SECONDS)
        self._tell(Figure("all killed at once, a put is acknowledged after, s", seconds, most=START_SECONDS_MAX))

    def _catch_up(self) -> None:
        """A follower is away until the log has gone beyond it, and comes back while writes go on."""
        plan = self._plan
        name = self._follower()
        place = self._servers.index(name)
        self._children.signal(name, signal.SIGTERM)
        self._children.ended(name, PATIENCE_SECONDS)
        saturated = self._until_cut_off(place)
        arguments = (self._peer.endpoints()[0], f"{SHARE * saturated:.0f}", str(plan.keys), str(plan.value_bytes))
        with self._span("a follower catches up"):
            load = Listener(self._children, "ours-load", python("benchmarks.loads.steady", *arguments))
            time.sleep(WARM_SECONDS)
            steady = time.time()
            time.sleep(plan.seconds)
            began = time.time()
            self._children.start(name, self._commands[name])
            asked = self._onlooker.wait(place, began, lambda status: status.get("fetched_bytes", 0) > 0, SETTLE_SECONDS)
            come = self._onlooker.wait(place, asked, lambda status: status.get("fetched_bytes") == 0, SETTLE_SECONDS)
            level = self._onlooker.wait(place, come, self._is_level, SETTLE_SECONDS)
            self._children.check()
            self._kill("ours-load")
        if self._onlooker.newest(place)["keys"] < plan.keys:
            raise Failed("the follower has not all keys")
        megabytes = self._onlooker.newest(place)["bytes"] / 1e6
        before = answers_per_second(load.said, steady, began)
        during = answers_per_second(load.said, asked, max(level, asked + 1.0))
        self._tell(
            Figure("rows of a snapshot arrive and are installed at, MB/s", megabytes / (come - asked), RATE_LEAST)
        )
        self._tell(Figure("… from the start of the follower until it is level, s", level - began))
        self._tell(Figure("… writes before, put/s", before))
        self._tell(Figure("… writes lost meanwhile, %", 100 * (1 - during / before), most=LOSS_MOST))

    def _until_cut_off(self, place: int) -> float:
        """Put until no log reaches back to where a server has ended; at how many a second."""
        needed = 3 * len(self._servers)
        counts = self._checkpoints()
        rates = []
        while sum(self._checkpoints()) - sum(counts) < needed:
            with self._span("puts, a follower away"):
                outcome = self._load(self._task("put", keys=self._plan.keys, seconds=self._plan.seconds))
            rates.append(len(outcome.latencies_us) / outcome.seconds)
        return sum(rates) / len(rates)

    # ── what is looked at ──────────────────────────────────────────────────────────────────────────

    def _costs(self) -> None:
        costs = self._record.costs
        few, hot, many = costs["few keys"], costs["hot keys"], costs["all keys"]
        about = f"a put costs all servers, with {TIMES_KEYS} × the keys, times as much"
        self._tell(Figure(f"{about}: processor", many.cpu_us / few.cpu_us, most=COST_TIMES_MOST))
        self._tell(Figure(f"{about}: bytes written", many.written_bytes / few.written_bytes))
        self._tell(Figure("a put costs all servers, µs of processor", many.cpu_us))
        self._tell(Figure(f"… of {HOT_KEYS:,} keys among all", hot.cpu_us))
        self._tell(Figure("a put writes on all disks together, bytes", many.written_bytes))
        self._tell(Figure(f"… of {HOT_KEYS:,} keys among all", hot.written_bytes))
        rows = [self._onlooker.newest(place)["checkpoint_rows"] for place in range(len(self._servers))]
        took = [self._onlooker.newest(place)["checkpoint_ms"] for place in range(len(self._servers))]
        self._tell(Figure("rows in a checkpoint", max(rows)))
        self._tell(Figure("… that took, s", max(took) / 1000))

    def _sizes(self, empty: list[int]) -> None:
        keys = self._plan.keys
        payload = KEY_BYTES + self._plan.value_bytes
        memory = max(held - bare for held, bare in zip(self._memory(), empty, strict=True)) / keys
        disk = [bytes_on_disk(self._directory / server) for server in self._servers]
        self._tell(Figure(f"memory of a server for each key of {payload} bytes, bytes", memory))
        self._tell(Figure("disk of a server for each key, bytes", max(sum(each.values()) for each in disk) / keys))
        for file in ("data.sqlite3", "data.sqlite3-wal", "log.sqlite3"):
            self._tell(Figure(f"… of it {file}", max(each.get(file, 0) for each in disk) / keys))

    def _stalls(self) -> None:
        looks = list(self._onlooker.said)
        found = {name: 0.0 for name, _, _ in self._record.spans}
        for name, begins, ends in self._record.spans:
            found[name] = max(found[name], longest_stall_ms(looks, begins, ends))
        self._tell(Figure("longest stall of a reactor, ms", max(found.values()), most=STALL_MS_MAX))
        for name, stall in found.items():
            self._tell(Figure(f"… {name}", stall))

    def _memory(self) -> list[int]:
        pids = self._children.pids()
        return [memory_bytes_of(pids[server]) for server in self._servers]

    def _checkpoints(self) -> list[int]:
        statuses = [self._onlooker.said[-1]["members"][place] for place in range(len(self._servers))]
        return [0 if status is None else status["checkpoints"] for status in statuses]

    # ── how ────────────────────────────────────────────────────────────────────────────────────────

    def _task(self, kind: Any, **fields: Any) -> Task:
        fields = {"clients": self._plan.clients, "value_bytes": self._plan.value_bytes, **fields}
        return Task(self._peer.endpoints(), kind, **fields)

    def _load(self, task: Task) -> Outcome:
        self._children.asked("ours-load", self._peer.load(task))
        return self._last_words(FILL_SECONDS if task.kind == "fill" else PATIENCE_SECONDS)

    def _last_words(self, patience: float = PATIENCE_SECONDS) -> Outcome:
        said = self._children.said("ours-load")
        status = self._children.ended("ours-load", patience)
        self._children.check()
        if status != 0 or not said:
            raise Failed(f"the load ended with status {status}: {self._children.tail('ours-load')}")
        try:
            return Outcome.from_line(said[-1])
        except ValueError as error:
            raise Failed(str(error)) from None

    def _follower(self) -> str:
        leader = self._peer.leader()
        return next(server for server in self._servers if server != leader)

    def _kill(self, server: str) -> None:
        self._children.kill(server)
        self._children.ended(server, PATIENCE_SECONDS)

    def _restarted(self, servers: list[str]) -> float:
        for server in servers:
            self._kill(server)
        began = time.time()
        for server in servers:
            self._children.start(server, self._commands[server])
        return max(
            self._onlooker.wait(self._servers.index(server), began, self._is_level, SETTLE_SECONDS) - began
            for server in servers
        )

    def _is_level(self, status: Mapping[str, Any]) -> bool:
        """Whether a member has applied what all know to be committed, or but for a moment of it."""
        known = [each["applied"] for each in self._onlooker.said[-1]["members"] if each is not None]
        return _serves(status) and status["applied"] >= max(known) - LEVEL_ENTRIES

    def _quiet(self) -> None:
        """Wait until no server has written a checkpoint for a moment."""
        before: list[int] = []
        while before != (before := self._checkpoints()):
            time.sleep(QUIET_SECONDS)

    def _tell(self, figure: Figure) -> None:
        self._record.figures.append(figure)

    def _span(self, name: str) -> _Span:
        return _Span(self._record, name)


LEVEL_ENTRIES: Final = 100
QUIET_SECONDS: Final = 3.0
WARM_SECONDS: Final = 2.0


class _Span:
    """Notes what was done from when to when."""

    def __init__(self, record: Record, name: str) -> None:
        self._record = record
        self._name = name

    def __enter__(self) -> None:
        self._began = time.time()

    def __exit__(self, *_: object) -> None:
        self._record.spans.append((self._name, self._began, time.time()))


def _serves(status: Mapping[str, Any]) -> bool:
    return status.get("role") in ("leader", "follower")


def words(plan: Plan, machine: Machine, record: Record) -> str:
    """What was done, and to what."""
    about = (
        f"{plan.keys:,} keys, values of {plan.value_bytes} bytes, one group of three servers and one controller on "
        f"this machine, loads of {plan.clients} clients for {plan.seconds:g} s"
    )
    busy = "A BUSY MACHINE, so no figures to keep: " if record.others_cores > BUSY_CORES else ""
    others = f"{busy}other programs used {record.others_cores:.2f} cores before the run"
    failed = [f"NOT TO THE END: {record.reason}"] if record.reason else []
    return "\n".join([*machine.lines(), f"twisted-kv: {record.version}", about, others, *failed]) + "\n"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--keys", default=1_000_000, type=click.IntRange(10), help="In the group in the end.")
@click.option("--seconds", default=10.0, type=click.FloatRange(1), help="Of each load.")
@click.option("--clients", default=64, type=click.IntRange(1), help="Closed loops of puts.")
@click.option("--value", default=256, type=click.IntRange(2), help="Bytes of a value.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Results; default: a new directory.")
@click.option("--keep", is_flag=True, help="Keep the servers' data.")
def command(keys: int, seconds: float, clients: int, value: int, out: Path | None, keep: bool) -> int:
    """Measure what a group of many keys costs: a change, memory and disk, a start, a follower that was away.

    Results go to a directory: large.txt, large.md, large.json, and what every process said. The exit status is 0 when
    all goals were met.
    """
    out = Path(tempfile.mkdtemp(prefix="twisted-kv-large-")) if out is None else out.resolve()
    servers, logs = out / "servers", out / "logs"
    shutil.rmtree(servers, ignore_errors=True)
    for directory in (servers, logs):
        directory.mkdir(parents=True, exist_ok=True)
    plan = Plan(keys, seconds, clients, value)
    record, children, status = Record(), Children(logs), 0
    machine = described(servers)
    try:
        Run(plan, Ours(), servers, children, record, lambda line: click.echo(line, err=True)).go()
        status = 1 if record.reason or any(figure.met is False for figure in record.figures) else 0
    except Ended as ended:
        status = 128 + ended.signum
        record.reason = record.reason or "the run was ended early"
    finally:
        children.stop()
        if not keep:
            shutil.rmtree(servers, ignore_errors=True)
    about, found = words(plan, machine, record), table(record.figures)
    (out / "large.txt").write_text(f"{about}\n{found.text()}")
    (out / "large.md").write_text("".join(f"- {line}\n" for line in about.splitlines()) + f"\n{found.markdown()}")
    (out / "large.json").write_text(json.dumps(asdict(record), indent=1) + "\n")
    click.echo(f"{about}\n{found.text()}\nresults: {out}")
    return status

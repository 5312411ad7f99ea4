"""``python benchmarks/run.py``: its options, where results go, and how a run ends.

Ctrl-C and SIGTERM end a run early: every process is stopped, and what was measured is reported. The exit status is 0
when every chosen system ran to the end, 1 when one could not, 130 or 143 when the run was ended early.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import click

from benchmarks import plot
from benchmarks.children import Children
from benchmarks.machine import described
from benchmarks.peers.etcd import Etcd
from benchmarks.peers.limits import Echo, Fsync, Overwrite
from benchmarks.peers.ours import Ours
from benchmarks.peers.peer import Missing, Peer
from benchmarks.peers.pysyncobj import PySyncObj
from benchmarks.peers.redis import Redis
from benchmarks.report import Report
from benchmarks.rounds import Plan, Record, Run
from benchmarks.tasks import rows_of

PEERS: Final[dict[str, type[Peer]]] = {
    peer.name: peer for peer in (Ours, Etcd, PySyncObj, Redis, Fsync, Overwrite, Echo)
}


class Ended(BaseException):
    """The run was ended by a signal."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def names(_: click.Context, __: click.Parameter, text: str) -> list[str]:
    """Of systems, in the order given."""
    chosen = list(dict.fromkeys(name.strip() for name in text.split(",")))
    if unknown := [name for name in chosen if name not in PEERS]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(PEERS)}")
    return chosen


def counts(_: click.Context, __: click.Parameter, text: str) -> list[int]:
    """Of clients, each at least 1."""
    try:
        chosen = [int(each) for each in text.split(",")]
    except ValueError:
        chosen = [0]
    if min(chosen) < 1:
        raise click.BadParameter(f"{text!r} is not numbers like 1,64,256")
    return chosen


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--peers", default=",".join(PEERS), callback=names, help="Which, in the order of a round.")
@click.option("--clients", default="1,64,256", callback=counts, help="Operations in flight, a row each.")
@click.option("--rounds", default=5, type=click.IntRange(1))
@click.option("--seconds", default=5.0, type=click.FloatRange(0, min_open=True), help="Of each sample.")
@click.option("--warmup", default=1.0, type=click.FloatRange(0), help="Seconds before each sample.")
@click.option("--keys", default=100_000, type=click.IntRange(1), help="In the store before anything is measured.")
@click.option("--value", default=256, type=click.IntRange(1), help="Bytes of a value.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Results; default: a new directory.")
@click.option("--keep", is_flag=True, help="Keep the servers' data.")
def command(
    peers: list[str],
    clients: list[int],
    rounds: int,
    seconds: float,
    warmup: float,
    keys: int,
    value: int,
    out: Path | None,
    keep: bool,
) -> int:
    """Measure twisted-kv beside its peers, in one run on this machine.

    Results go to a directory: table.txt, table.md, results.json, plot.svg, plot.png, and what every process said.
    """
    out = Path(tempfile.mkdtemp(prefix="twisted-kv-benchmark-")) if out is None else out.resolve()
    servers, logs = out / "servers", out / "logs"
    shutil.rmtree(servers, ignore_errors=True)
    for directory in (servers, logs):
        directory.mkdir(parents=True, exist_ok=True)
    chosen = [PEERS[name]() for name in peers]
    plan = Plan(tuple(rows_of(clients)), rounds, seconds, warmup, keys, value)
    record = Record()
    children = Children(logs)
    report = Report(plan, chosen, described(servers), record, time.strftime("%Y-%m-%d %H:%M"))
    status = 0
    try:
        Run(plan, chosen, servers, children, record, lambda line: click.echo(line, err=True)).go()
        status = 1 if record.reasons else 0
    except Ended as ended:
        status = 128 + ended.signum
        record.reasons.update(
            {peer.name: "the run was ended early" for peer in chosen if peer.name not in record.reasons}
        )
    finally:
        children.stop()
        if not keep:
            shutil.rmtree(servers, ignore_errors=True)
    write(report, out)
    return status


def write(report: Report, out: Path) -> None:
    """The files of a report, and its text on standard output."""
    text, markdown = report.text(), report.markdown()
    try:
        plot.draw(report, out)
    except Missing as missing:
        text += f"not drawn: {missing}\n"
        markdown += f"- not drawn: {missing}\n"
    (out / "table.txt").write_text(text)
    (out / "table.md").write_text(markdown)
    (out / "results.json").write_text(json.dumps(report.as_json(), indent=1) + "\n")
    click.echo(text)
    click.echo(f"results: {out}")


def main(chosen: click.Command = command) -> None:
    """Run a command line and exit with its status."""

    def end(signum: int, _: object) -> None:
        # Once: what cleans up is not to be interrupted.
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise Ended(signum)

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, end)
    try:
        sys.exit(chosen.main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(2)

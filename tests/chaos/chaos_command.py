"""The command of ``run.py``: real processes under fire, for a given time.

Decides what the command says and how it ends: status 1 after a violation, 2 if not a single round had load enough to
mean anything, 130 after Ctrl-C. One line per round; a record adds rounds up over several runs. docs/chaos.md tells how
to read it.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from random import SystemRandom

import click
from chaos_nemesis import FAULTS, chosen
from chaos_rounds import Round, Settings, recorded, rounds, write
from chaos_servers import private_mounts
from child.plants import PLANTS

from twisted_kv.admin.running import run

VIOLATION, VOID = 1, 2
TOLD_MAX = 10
LINE_MAX = 300


@click.command()
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True)
@click.option("--rounds", "rounds_max", type=click.IntRange(1), help="At most so many rounds.")
@click.option("--seed", type=int, help="Of all dice; drawn and printed unless given.")
@click.option("--cluster", type=click.IntRange(1), default=1, help="Begin with this cluster of the seed.")
@click.option("--groups", type=click.IntRange(1, 5), default=3, show_default=True)
@click.option("--warm", type=float, default=5.0, show_default=True, help="Seconds of load before the faults.")
@click.option("--fire", type=float, default=40.0, show_default=True, help="Seconds of faults in a round.")
@click.option("--calm", type=float, default=5.0, show_default=True, help="Seconds of load after the faults.")
@click.option(
    "--rate", type=float, default=20.0, show_default=True, help="Calls per second below which a round is void."
)
@click.option("--faults", default="", help="Families or names, comma-separated; all unless given.")
@click.option("--no-churn", is_flag=True, help="No group joins or leaves, no shard moves.")
@click.option("--plant", type=click.Choice(sorted(PLANTS)), help="Sabotage the servers: the run must fail.")
@click.option("--record", type=click.Path(path_type=Path), help="Add rounds to this file; its minutes count.")
@click.option("--report", is_flag=True, help="Print the sums of the record as a table, and run nothing.")
@click.option("--verbose", is_flag=True, help="Say also what is being done.")
def main(
    minutes: float,
    rounds_max: int | None,
    seed: int | None,
    cluster: int,
    groups: int,
    warm: float,
    fire: float,
    calm: float,
    rate: float,
    faults: str,
    no_churn: bool,
    plant: str | None,
    record: Path | None,
    report: bool,
    verbose: bool,
) -> None:
    """Start real servers behind proxies of ours, spoil all there is to spoil, and judge what clients saw."""
    known = recorded(record) if record is not None else []
    if report:
        if record is None:
            raise click.UsageError("--report sums up a --record")
        click.echo(table(known))
        return
    wanted = tuple(filter(None, faults.split(",")))
    try:
        chosen(wanted, True, True)
    except KeyError as error:
        raise click.BadParameter(f"{error} is none of {', '.join(names())}", param_hint="--faults") from None
    left = minutes * 60 - sum(each.seconds for each in known if each.counts)
    if left <= 0:
        click.echo(f"{len(known)} rounds are recorded, {minutes:g} minutes and more: nothing is left to do")
        return
    seed = seed if seed is not None else SystemRandom().getrandbits(31)
    done_before = [each.cluster for each in known if each.seed == seed]
    cluster = max([cluster, *(number + 1 for number in done_before)])
    # Before anything imports the reactor: a process with threads cannot have mounts of its own.
    settings = Settings(
        seed,
        groups,
        warm,
        fire,
        calm,
        faults=wanted,
        plant=plant,
        mounts=private_mounts(),
        rate_min=rate,
        churn=not no_churn,
    )
    click.echo(f"seed {seed}, from cluster {cluster} on, for {left / 60:.1f} minutes")
    results: list[Round] = []

    async def command(reactor: object) -> int:
        # Before the first callLater: as in every server, timers must not follow the wall clock.
        reactor.seconds = time.monotonic  # type: ignore[attr-defined]
        begun = time.monotonic()
        say = click.echo if verbose else (lambda line: None)
        living = rounds(reactor, settings, cluster, say)
        try:
            async for result in living:
                results.append(result)
                tell(result)
                if record is not None:
                    write(record, result)
                if time.monotonic() - begun >= left or len(results) == rounds_max:
                    break
        finally:
            await living.aclose()
        return 0

    status = run(command)
    click.echo(summary(results))
    if any(each.violations for each in results):
        status = VIOLATION
    elif not status and all(each.void for each in results):
        status = VOID
    sys.exit(status)


def tell(result: Round) -> None:
    """One line; after a violation some of what was found, where all of it is, and how to have such faults again."""
    click.echo(str(result))
    for line in result.violations[:TOLD_MAX]:
        click.echo(f"  {line if len(line) <= LINE_MAX else line[:LINE_MAX] + ' …'}")
    if result.violations:
        click.echo(f"  {len(result.violations)} violations, all in story.txt")
        click.echo(f"  look at {result.evidence}: story.txt, history.txt, *.log, disks/")
        click.echo(f"  the same faults again: {command_of(result)}")


def command_of(result: Round) -> str:
    """What a person types to have the same row of faults, with this very command's other options."""
    keep: list[str] = []
    words = iter(sys.argv[1:])
    for word in words:
        if word in ("--seed", "--cluster", "--record"):
            next(words)
        elif not word.startswith(("--seed=", "--cluster=", "--record=")):
            keep.append(word)
    return " ".join(["python", sys.argv[0], *keep, "--seed", str(result.seed), "--cluster", str(result.cluster)])


def names() -> list[str]:
    """What --faults understands."""
    return [*FAULTS, *(name for family in FAULTS.values() for name in family)]


def summary(results: list[Round]) -> str:
    """The last line."""
    void = sum(bool(each.void) for each in results)
    bad = sum(bool(each.violations) for each in results)
    return f"{len(results)} rounds: {bad} with violations, {void} void"


def table(results: list[Round]) -> str:
    """The sums, as a table of a document."""
    ours = [each for each in results if each.plant is None]
    sound = [each for each in ours if each.counts]
    faults: Counter[str] = Counter()
    for each in sound:
        faults.update(each.faults)
    figures = {
        "rounds": len(sound),
        "void rounds beside them": len(ours) - len(sound),
        "clusters": len({(each.seed, each.cluster) for each in sound}),
        "minutes": round(sum(each.seconds for each in sound) / 60, 1),
        "calls judged": sum(each.calls for each in sound),
        "of unknown outcome": sum(each.unknown for each in sound),
        "failed for certain": sum(each.failed for each in sound),
        "changes of the configuration": sum(each.changes for each in sound),
        "terms with a leader": sum(each.elections for each in sound),
        "replicas compared": sum(each.replicas_compared for each in sound),
        "longest time without an answer, s": round(max((each.worst_gap_seconds for each in sound), default=0), 1),
        "faults": sum(faults.values()),
        "**violations**, also in void rounds": sum(len(each.violations) for each in ours),
    }
    lines = ["| figure | sum |", "|---|---|", *(f"| {name} | {value:,} |" for name, value in figures.items()), ""]
    lines += ["| fault | times |", "|---|---|", *(f"| `{name}` | {count} |" for name, count in sorted(faults.items()))]
    return "\n".join(lines)

"""The command ``simulate``: how many lives, for how long, and what a person sees of them.

Decides what may be asked for together, what is printed while lives are lived and afterwards, and the exit status: 1
after a violation, or when the lives together prove nothing (simulation/lives/tally). The wall clock is read here and
never within a life. What a life is, is the simulator's.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, Final

import click

from twisted_kv.admin import render
from twisted_kv.admin.running import Status
from twisted_kv.simulation.lives.campaign import Campaign, Unusable, by_program, program_digest, read
from twisted_kv.simulation.lives.reports import OK, Report
from twisted_kv.simulation.lives.run import ALL, PLANS, be_silent, lives, plan_of, run_seed, uninterrupted
from twisted_kv.simulation.lives.tally import Tally

SEEDS: Final = 20
PLAN: Final = "everything"
LINE_EVERY: Final = 100
NEW_SEEDS: Final = 1_000_000_000
"""New seeds begin somewhere below this."""


class Asked:
    """What was typed, once it is known to make sense."""

    def __init__(
        self,
        seeds: int | None,
        jobs: int,
        seed: int | None,
        first: int | None,
        new_seeds: bool,
        plan: str | None,
        minutes: float | None,
        trace: bool,
        digests: bool,
        demand_rare: bool,
        campaign: Path | None,
        report: bool,
    ) -> None:
        one = {
            "--seeds": seeds,
            "--from": first,
            "--new-seeds": new_seeds,
            "--minutes": minutes,
            "--campaign": campaign,
            "--demand-rare": demand_rare,
        }
        refuse_together("--seed", seed, one)
        refuse_together("--from", first, {"--new-seeds": new_seeds})
        refuse_together("--campaign", campaign, {"--new-seeds": new_seeds, "--digests": digests})
        if trace and seed is None:
            raise click.UsageError("--trace tells every event of one life: say which by --seed")
        if report and campaign is None:
            raise click.UsageError("--report reads a campaign: say which by --campaign FILE")
        refuse_together("--report", report or None, {"--demand-rare": demand_rare, "--minutes": minutes})
        if campaign is not None and seeds is None and not report:
            raise click.UsageError("a campaign has a number of --seeds")
        if plan not in (None, ALL, *PLANS):
            raise click.BadParameter(f"{plan!r} is none of {', '.join((*PLANS, ALL))}", param_hint="--plan")
        if demand_rare and plan != ALL:
            raise click.UsageError("--demand-rare asks for what no single plan reaches: add --plan all")
        self.count = seeds if seeds is not None or minutes is not None else SEEDS
        self.first = random.SystemRandom().randrange(1, NEW_SEEDS) if new_seeds else 1 if first is None else first
        self.jobs = jobs
        self.seed = seed
        self.new_seeds = new_seeds
        self.plan = plan or PLAN
        self.plan_named = plan
        self.minutes = minutes
        self.trace = trace
        self.digests = digests
        self.demand_rare = demand_rare
        self.campaign = campaign
        self.report = report


def refuse_together(option: str, value: Any, others: dict[str, Any]) -> None:
    """Options of which one would be dropped in silence.

    Raises:
        click.UsageError: one of the others was given as well.
    """
    for other, given in others.items():
        if value is not None and given is not None and given is not False:
            raise click.UsageError(f"{option} and {other} exclude each other")


def simulate(asked: Asked) -> int:
    """Do what was asked for; returns the exit status."""
    if asked.report and asked.campaign is not None:
        return show_campaign(asked.campaign, asked.plan_named)
    be_silent()
    if asked.seed is not None:
        return one_life(asked.seed, asked)
    return many_lives(asked)


def one_life(seed: int, asked: Asked) -> int:
    """One seed, told in full if asked for."""
    sink = (lambda event: render.write_line(str(event))) if asked.trace else None
    with uninterrupted():
        report = run_seed(seed, plan_of(asked.plan, seed), sink)
    render.write_line(digest_line(report) if asked.digests else str(report))
    return Status.DONE if report.verdict == OK else Status.NO


def many_lives(asked: Asked) -> int:
    """A sweep, or a part of a campaign."""
    began = time.monotonic()
    deadline = None if asked.minutes is None else began + 60 * asked.minutes
    tally = Tally()

    def wanted() -> bool:
        if deadline is None or time.monotonic() < deadline:
            return True
        # What a sweep has not reached yet it is given as long again to reach.
        patience = deadline + (deadline - began)
        return asked.demand_rare and bool(tally.unreached) and time.monotonic() < patience

    campaign = None if asked.campaign is None else Campaign(asked.campaign, asked.plan, time.monotonic)
    reports, total = begun(asked, campaign, wanted)
    if asked.new_seeds:
        render.write_line(f"seeds from {asked.first} on")
    interrupted = False
    digests = []
    with render.progress(f"lives by plan {asked.plan}", total) as told, closing(reports):
        try:
            for report in reports:
                tally.count(report)
                digests.append((report.plan, report.seed, digest_line(report)))
                say_of(report, tally, began, asked.digests)
                told(tally.total.lives)
        except KeyboardInterrupt:
            interrupted = True
        except Unusable as error:
            raise click.ClickException(str(error)) from None
    # A campaign is judged by all that is on record.
    judged = tally if campaign is None else campaign.tally()
    if asked.digests:
        for *_, line in sorted(digests):
            render.write_line(line)
    elif tally.total.lives or campaign is None:
        show(tally, time.monotonic() - began)
    else:
        show(judged, 0.0)
    failed = judged.why_failed(asked.demand_rare)
    if interrupted:
        render.write_line(f"interrupted{f', and {failed}' if failed else ''}")
        return Status.NO if judged.total.violated else Status.INTERRUPTED
    if failed:
        render.write_line(f"FAILED: {failed}")
    return Status.NO if failed else Status.DONE


def begun(asked: Asked, campaign: Campaign | None, wanted: Callable[[], bool]) -> tuple[Generator[Report], int | None]:
    """The lives that were asked for, and how many they are if that is known."""
    if campaign is None:
        seeds = count(asked.first) if asked.count is None else range(asked.first, asked.first + asked.count)
        return lives(seeds, asked.plan, asked.jobs, wanted), asked.count
    assert asked.count is not None
    try:
        left = campaign.left(asked.first, asked.count)
    except Unusable as error:
        raise click.ClickException(str(error)) from None
    render.write_line(f"program {program_digest()}: {asked.count - len(left)} lives on record, {len(left)} to go")
    return campaign.lives(left, asked.jobs, wanted), len(left)


def say_of(report: Report, tally: Tally, began: float, digests: bool) -> None:
    """What is said at once: what failed, and now and then that there is something going on."""
    lived = tally.total.lives
    if report.verdict != OK:
        say(str(report))
    elif not digests and lived % LINE_EVERY == 0 and not sys.stderr.isatty():
        say(f"{lived} lives in {time.monotonic() - began:.0f} s, {tally.total.violated} with violations")


def say(text: str) -> None:
    """One text; above the progress bar where there is one, which takes the place of standard output meanwhile."""
    if sys.stderr.isatty():
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    else:
        render.write_line(text)


def digest_line(report: Report) -> str:
    """What two interpreters must have in common."""
    return f"{report.plan} {report.seed} {report.digest}"


def show(tally: Tally, seconds: float) -> None:
    """The summary of a sweep."""
    render.write_table(*tally.table())
    if tally.rare:
        render.write_table(*tally.rare_table())
    if tally.unreached and tally.total.lives >= LINE_EVERY:
        render.write_line(f"never reached: {', '.join(tally.unreached)}")
    for line in tally.failures():
        render.write_line(line)
    total = tally.total
    rate = f", {total.lives / seconds:.2f} a second" if seconds else ""
    render.write_line(f"{total.lives} lives in {seconds:.0f} s{rate}: {total.violated} violated, {total.void} void")


def show_campaign(file: Path, plan: str | None) -> int:
    """All that is on record, or all of one plan; the exit status is that of the lives of the last program in it."""
    try:
        found = by_program(read(file))
    except Unusable as error:
        raise click.ClickException(str(error)) from None
    shown = {name: lived for name, lived in found.items() if plan in (None, name[1])}
    *_, latest = [program for program, _ in shown] or [""]
    reasons = [] if shown else ["nothing is on record"]
    for (program, its_plan), (seeds, seconds, tally) in shown.items():
        rows = ", ".join(f"{first}-{last}" for first, last in seeds)
        render.write_line(f"program {program}, plan {its_plan}, seeds {rows}")
        show(tally, seconds)
        if program == latest and (why := tally.why_failed()):
            reasons.append(f"plan {its_plan}: {why}")
    for reason in reasons:
        render.write_line(f"FAILED: {reason}")
    return Status.NO if reasons else Status.DONE

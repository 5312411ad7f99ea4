"""The command ``twisted-kv``: what can be typed, and which room does it.

Decides names, options and examples; each command is a few lines that hand on to load, asking, bench, tour, inspect or
a Clerk. How a command reaches a cluster is decided in ``reach``, what an outcome means for the exit status in
``running``.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, NoReturn

import click

from twisted_kv import Clerk, ControllerClerk
from twisted_kv._version import __version__
from twisted_kv.admin import asking, bench, inspect, load, render, tour
from twisted_kv.admin.reach import Reach, group_of, reach_options, reaching, value_of, with_admin, with_clerk
from twisted_kv.admin.running import Status, complain, run
from twisted_kv.constants import VALUE_BYTES_CEILING
from twisted_kv.transport.network import PBNetwork


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status; errors are one line on standard error."""
    try:
        status = cli.main(args=argv, prog_name="twisted-kv", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        status = Status.UNPARSED
    except click.UsageError as error:
        about = f"twisted-kv {error.ctx.info_name} --help" if error.ctx and error.ctx.parent else "twisted-kv --help"
        complain(f"{error.format_message()} ({about} tells more)")
        status = Status.UNPARSED
    except click.ClickException as error:
        complain(error.format_message())
        status = Status.NO
    except (click.Abort, KeyboardInterrupt):
        status = Status.INTERRUPTED
    sys.exit(int(status or 0))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="twisted-kv")
@reach_options
@click.pass_context
def cli(ctx: click.Context, controllers: tuple[str, ...], timeout: float | None, as_json: bool) -> None:
    """A sharded, replicated, linearizable key/value store.

    \b
    twistd -n kv-node --data DIR          a whole store in one process
    twisted-kv put greeting hello         talk to it
    twisted-kv demo                       a real cluster and a guided tour

    Exit status: 0 done, 1 a definite no, 2 the line could not be parsed, 3 the outcome is unknown,
    4 unavailable or overloaded.
    """
    ctx.obj = Reach(controllers, timeout, as_json)


# ── data ───────────────────────────────────────────────────────────────────────────────────────────


@cli.command()
@click.argument("key")
@click.option("--exists", is_flag=True, help="Exit with 1 if the key is absent.")
@reaching
def get(reach: Reach, key: str, exists: bool) -> int:
    """Print the value of KEY.

    An absent key prints an empty line. Text ends with a newline, bytes come raw and without.

    \b
    twisted-kv get greeting
    twisted-kv get picture > picture.png
    """

    async def work(clerk: Any) -> int:
        value = await clerk.get(key, None, timeout=reach.seconds)
        if reach.as_json:
            render.write_json({"key": key, "exists": value is not None, **render.json_value(value)})
        elif value is not None or not exists:
            render.write_value("" if value is None else value)
        return Status.NO if exists and value is None else Status.DONE

    return with_clerk(reach, work)


def writes(name: str, method: str, help_text: str) -> None:
    """Add a command that writes KEY VALUE."""

    @cli.command(name, help=help_text)
    @click.argument("key")
    @click.argument("value")
    @reaching
    def write(reach: Reach, key: str, value: str) -> int:
        async def work(clerk: Any) -> int:
            answer = await getattr(clerk, method)(key, value_of(value), timeout=reach.seconds)
            if reach.as_json:
                render.write_json({"key": key, **({} if answer is None else render.json_value(answer))})
            elif answer is not None:
                render.write_value(answer)
            return Status.DONE

        return with_clerk(reach, work)


_FROM_STDIN = "VALUE - reads standard input as it is: text if it is UTF-8, else bytes."
_EXAMPLE = "\b\ntwisted-kv"
writes("put", "put", f"Store VALUE under KEY.\n\n{_FROM_STDIN}\n\n{_EXAMPLE} put picture - < picture.png")
writes("append", "append", f"Add VALUE to the end of what KEY holds.\n\n{_FROM_STDIN}\n\n{_EXAMPLE} append log more")
writes(
    "puthash",
    "put_hash",
    "Store the hash of what KEY holds and VALUE, and print what it held.\n\n"
    f"{_FROM_STDIN}\n\n{_EXAMPLE} puthash chain next",
)


@cli.command()
@click.argument("key")
@reaching
def delete(reach: Reach, key: str) -> int:
    """Remove KEY; exit with 1 if it was not there.

    \b
    twisted-kv delete greeting
    """

    async def work(clerk: Any) -> int:
        deleted = await clerk.delete(key, timeout=reach.seconds)
        if reach.as_json:
            render.write_json({"key": key, "deleted": deleted})
        elif not deleted:
            complain(f"{key!r} was not there")
        return Status.DONE if deleted else Status.NO

    return with_clerk(reach, work)


@cli.command("load")
@click.argument("file", type=click.File("rb"))
@reaching
def load_command(reach: Reach, file: IO[bytes]) -> int:
    """Put the keys of a file of JSON lines; - reads standard input.

    A line is {"key": ..., "value": ...}, or "value_base64" for bytes.

    \b
    twisted-kv load backup.jsonl
    """

    async def work(clerk: Any) -> int:
        with render.progress("loading", None) as told:
            count = await load.load(clerk, file, reach.seconds, told)
        if reach.as_json:
            render.write_json({"loaded": count})
        return Status.DONE

    return with_clerk(reach, work)


@cli.command("dump")
@click.argument("file", type=click.File("w", encoding="utf-8"), default="-")
@reaching
def dump_command(reach: Reach, file: IO[str]) -> int:
    """Write every key and its value as JSON lines; what load reads.

    Shard by shard: each is read as it stands, all of them are not of one moment.

    \b
    twisted-kv dump backup.jsonl
    """

    async def work(clerk: Any) -> int:
        configuration = await clerk.configuration(timeout=reach.seconds)
        with render.progress("dumping shards", len(configuration.shards)) as told:
            await load.dump(clerk, configuration, file.write, reach.seconds, told)
        file.flush()
        return Status.DONE

    return with_clerk(reach, work)


# ── groups ─────────────────────────────────────────────────────────────────────────────────────────


@cli.command()
@click.argument("groups", nargs=-1, required=True, metavar="GID=EP,EP,EP ...")
@click.option("--unchecked", is_flag=True, help="Do not ask the servers for their gid first.")
@reaching
def join(reach: Reach, groups: tuple[str, ...], unchecked: bool) -> int:
    """Give groups their part of the shards; several groups make one configuration.

    Without a majority of a group's servers that answers as this group, nothing is changed.

    \b
    twisted-kv join 100=tcp:127.0.0.1:7101,tcp:127.0.0.1:7102,tcp:127.0.0.1:7103
    """
    wanted = dict(group_of(text) for text in groups)

    async def work(reactor: Any, admin: Any) -> Any:
        identities = {}
        if not unchecked:
            for gid, endpoints in wanted.items():
                identities[gid] = await asking.group_identity(admin, reactor, gid, endpoints, reach.seconds)
        return await admin.join(wanted, identities=identities, timeout=reach.seconds)

    return with_admin(reach, work)


@cli.command()
@click.argument("gids", nargs=-1, required=True, type=int, metavar="GID ...")
@reaching
def leave(reach: Reach, gids: tuple[int, ...]) -> int:
    """Take groups out; their shards go to those that stay.

    Their servers may be shut down as soon as status shows that they hold nothing more.

    \b
    twisted-kv leave 100
    """
    return with_admin(reach, lambda _, admin: admin.leave(list(gids), timeout=reach.seconds))


@cli.command()
@click.argument("shard", type=int)
@click.argument("gid", type=int)
@reaching
def move(reach: Reach, shard: int, gid: int) -> int:
    """Give one SHARD to group GID; nothing else moves.

    \b
    twisted-kv move 3 100
    """
    return with_admin(reach, lambda _, admin: admin.move(shard, gid, timeout=reach.seconds))


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("num", type=int, default=-1)
@reaching
def query(reach: Reach, num: int) -> int:
    """Print configuration NUM, or the newest.

    \b
    twisted-kv query
    twisted-kv query 1 --json
    """
    return with_admin(reach, lambda _, admin: admin.query(num, timeout=reach.seconds))


@cli.command()
@click.argument("group", metavar="GID=EP,EP,EP")
@reaching
def readdress(reach: Reach, group: str) -> int:
    """Say where the servers of a known group are now; nothing moves.

    \b
    twisted-kv readdress 100=tcp:10.0.0.1:7101,tcp:10.0.0.2:7101,tcp:10.0.0.3:7101
    """
    gid, endpoints = group_of(group)
    return with_admin(reach, lambda _, admin: admin.readdress(gid, endpoints, timeout=reach.seconds))


@cli.command()
@reaching
def status(reach: Reach) -> int:
    """Show every controller and group member, and what could not be reached; needs no quorum.

    \b
    twisted-kv status
    twisted-kv status --json
    """
    endpoints = reach.endpoints

    async def work(reactor: Any) -> int:
        network = PBNetwork(reactor)
        try:
            report = await asking.cluster_status(network, reactor, endpoints, reach.seconds)
        finally:
            await network.close()
        render.write_status(report, reach.as_json)
        return Status.DONE if report["controller"] else Status.UNAVAILABLE

    return run(work)


# ── trying it out, looking inside ──────────────────────────────────────────────────────────────────


@cli.command()
@click.option("--keep", is_flag=True, help="Leave the cluster up afterwards, until Ctrl-C.")
def demo(keep: bool) -> int:
    """A real cluster on this machine, and a guided tour of what it promises.

    Three controllers and two groups of three, each its own twistd process: loads text, kills a leader, moves shards
    while writing, and reads everything back.

    \b
    twisted-kv demo
    twisted-kv demo --keep
    """

    async def work(reactor: Any) -> int:
        await tour.demo(
            reactor,
            partial(Clerk, reactor=reactor),
            partial(ControllerClerk, reactor=reactor),
            render.write_line,
            render.progress,
            keep,
        )
        return Status.DONE

    return run(work)


@cli.command("simulate")
@click.option("--seeds", type=click.IntRange(1), help="How many lives; 20 unless --minutes is given.")
@click.option("--from", "first", type=click.IntRange(0), metavar="SEED", help="The first seed; 1 unless given.")
@click.option("--new-seeds", is_flag=True, help="Begin at a seed that is drawn, and printed.")
@click.option("--seed", type=click.IntRange(0), help="This one alone.")
@click.option("--plan", metavar="NAME", help="Or all: each seed one, in turn.  [default: everything]")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@click.option("--minutes", type=click.FloatRange(0), help="Begin no more lives after so long.")
@click.option("--trace", is_flag=True, help="Tell every event of a single seed.")
@click.option("--digests", is_flag=True, help="Print a digest of each trace: equal on every Python.")
@click.option(
    "--demand-rare",
    is_flag=True,
    help="Fail if plan all never reached some rare event; a sweep has twice the minutes for it.",
)
@click.option("--campaign", type=click.Path(dir_okay=False, path_type=Path), help="Go on where this file ends.")
@click.option("--report", is_flag=True, help="Show what the campaign has on record.")
def simulate_command(**options: Any) -> int:
    """Search for violations in simulated worlds, one life per seed.

    What fails is printed with its seed and the command that replays it; the exit status is then 1.

    \b
    twisted-kv simulate --seeds 100 --jobs 2 --plan all
    twisted-kv simulate --seed 7 --trace
    twisted-kv simulate --minutes 4 --new-seeds --plan all --jobs 2
    twisted-kv simulate --campaign lives.jsonl --seeds 10000 --plan all --jobs 2
    """
    # Imported here: no other command needs the simulator.
    from twisted_kv.admin import simulating

    return simulating.simulate(simulating.Asked(**options))


@cli.command("explore")
@click.option("--core", default="raft", show_default=True, help="Which consensus core.")
@click.option("--plan", metavar="NAME", help="One plan alone; without it, all of them.")
@click.option("--budget", metavar="KIND=N,…", help="What may happen how often, instead of a plan.")
@click.option("--depth", type=click.IntRange(0), help="Breadth first, to this many steps.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="For each plan, then stop.")
@click.option("--walks", type=click.IntRange(0), default=0, show_default=True, help="Random walks afterwards.")
@click.option("--walk-depth", type=click.IntRange(1), default=100, show_default=True, help="Steps of each walk.")
@click.option("--seed", type=int, default=1, show_default=True, help="Chance of the walks.")
def explore_command(
    core: str,
    plan: str | None,
    budget: str | None,
    depth: int | None,
    minutes: float | None,
    walks: int,
    walk_depth: int,
    seed: int,
) -> int:
    """Visit every state of three consensus cores on a network that may do anything.

    A violation prints the path to it; the exit status is then 1.

    \b
    twisted-kv explore --minutes 2
    twisted-kv explore --budget elections=2,crashes=1 --minutes 5
    """
    from twisted_kv.simulation.explorer import run as explorer_run
    from twisted_kv.simulation.explorer.cores import CORES

    if core not in CORES:
        raise click.BadParameter(f"{core!r} is none of {', '.join(CORES)}", param_hint="--core")
    if plan is not None and plan not in explorer_run.PLANS:
        raise click.BadParameter(f"{plan!r} is none of {', '.join(explorer_run.PLANS)}", param_hint="--plan")
    plans = explorer_run.PLANS if plan is None else {plan: explorer_run.PLANS[plan]}
    if budget is not None:
        try:
            plans = {"budget": explorer_run.budgets_from(budget)}
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--budget") from None
    seconds = None if minutes is None else minutes * 60
    clock = time.perf_counter
    return explorer_run.main(core, plans, depth, seconds, walks, walk_depth, seed, render.write_line, clock)


@cli.command("bench")
@click.option("--clients", type=click.IntRange(1), default=64, show_default=True, help="Operations in flight.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True)
@click.option("--mix", default="50/50", show_default=True, metavar="GETS/PUTS")
@click.option("--value-bytes", type=click.IntRange(0, VALUE_BYTES_CEILING), default=256, show_default=True)
@click.option(
    "--connections", type=click.IntRange(1), default=1, show_default=True, help="Clerks to share the clients."
)
@reaching
def bench_command(reach: Reach, clients: int, seconds: float, mix: str, value_bytes: int, connections: int) -> int:
    """Measure a running cluster: every client asks, waits, asks again.

    \b
    twisted-kv bench --clients 64 --seconds 10 --mix 90/10
    """
    try:
        asked = bench.Load(clients, seconds, bench.get_share(mix), value_bytes)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--mix") from None
    endpoints = reach.endpoints

    async def work(reactor: Any) -> int:
        clerks = [Clerk(endpoints, reactor) for _ in range(connections)]
        try:
            found = await bench.bench(clerks, asked, time.perf_counter, random.Random())
        finally:
            for clerk in clerks:
                await clerk.close()
        render.write_measured(found.as_json(), reach.as_json)
        return Status.DONE

    return run(work)


@cli.command("inspect")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("table", required=False)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def inspect_command(directory: Path, table: str | None, as_json: bool) -> int:
    """Look into the directory of a replica, also of one that runs; changes nothing.

    With TABLE, the rows of a table or view as JSON lines.

    \b
    twisted-kv inspect /var/lib/kv/group-1
    twisted-kv inspect /var/lib/kv/group-1 log
    """

    async def work(_: Any) -> int:
        for replica in inspect.replicas(directory):
            if table is None:
                render.write_inspected(inspect.inspected(replica), as_json)
            else:
                for row in inspect.rows(replica, table):
                    render.write_json(row)
        return Status.DONE

    return run(work)

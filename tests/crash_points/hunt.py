"""Cuts the power at every point of twenty workloads, and makes every call of theirs fail.

    python tests/crash_points/hunt.py [WORKLOAD...] [--states-max N] [--seed S] [--jobs 2] [--every K]

Decides what is run and what is printed; docs/crash-points.md says how to read it. Exit status 1 when something was
found. Ctrl-C and SIGTERM print what was found so far.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).parent))

from crash_plants import PLANTS, plant
from crash_recording import Call, built

if TYPE_CHECKING:
    from crash_points import Failures, Points

NAMES: Final = [
    *("votes", "appends", "cuts", "big-entries", "trims", "checkpoints", "slices", "aborted", "installs", "ballast"),
    *("creation", "formation", "restarts", "kills", "group-puts", "group-checkpoints", "group-migration", "controller"),
    *("follower", "follower-installs"),
]
"""The twenty; not asked of crash_run, which only processes with the recorder preloaded can import to any use."""

STATES_MAX: Final = 24


def main() -> int:
    """The command."""
    options = _options()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = monotonic()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    scratch = Path(tempfile.mkdtemp(prefix="crash-points-", dir=memory))
    _say(f"seed {options.seed}, every {options.every}, at most {options.states_max} states a crash point")
    try:
        os.environ["LD_PRELOAD"] = str(built(scratch))
        found = _hunted(options, scratch)
    finally:
        os.environ.pop("LD_PRELOAD", None)
        shutil.rmtree(scratch, ignore_errors=True)
    points = sorted((each for each in found if hasattr(each, "points")), key=lambda each: NAMES.index(each.workload))
    failures = [each for each in found if hasattr(each, "ended")]
    if points:
        _print_points(points)
    if failures:
        _print_failures(failures)
    violations = [(each.workload, text, replay) for each in found for text, replay in each.violations]
    for workload, text, replay in violations:
        _say(f"\nVIOLATION {workload}: {text}\n  see it again: {_command(options)} {replay}")
    seconds = monotonic() - began
    _say(f"\n{len(violations)} violations, {seconds:.0f} s")
    return 1 if violations or len(found) < len(_tasks(options)) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=", ".join(NAMES))
    parser.add_argument("--states-max", type=int, default=STATES_MAX, help="states per crash point (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which parts of what was not synced are drawn (0)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (%(default)s)")
    parser.add_argument("--every", type=int, default=1, help="each K-th crash point and each K-th call only (1: all)")
    parser.add_argument("--part", choices=("points", "failures", "both"), default="both", help="of the hunt (both)")
    parser.add_argument("--plant", choices=tuple(PLANTS), help="put a known fault in first")
    parser.add_argument("--point", type=int, help="this crash point only")
    parser.add_argument("--fault", help="this fault only: CALL:K:HOW, or CALL:K+:HOW for all from the K-th on")
    parser.add_argument("--results", type=Path, help="keep what is found in this file, and go on where it ends")
    options = parser.parse_args()
    unknown = set(options.workloads) - set(NAMES)
    if unknown or options.every < 1 or options.states_max < 2:
        parser.error(f"no workload: {', '.join(unknown)}" if unknown else "--every from 1, --states-max from 2")
    if options.point is not None:
        options.part = "points"
    if options.fault is not None:
        options.part = "failures"
    return options


def _say(text: str = "", end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


Task = tuple[str, Call | None]


def _tasks(options: argparse.Namespace) -> list[Task]:
    """(workload, None) for its crash points, (workload, call) for the failures of one kind of call."""
    tasks: list[Task] = []
    for name in options.workloads or NAMES:
        if options.part != "failures":
            tasks.append((name, None))
        if options.part != "points":
            calls = [Call[options.fault.split(":")[0].upper()]] if options.fault else list(Call)
            tasks += [(name, call) for call in calls]
    return tasks


def _hunted(options: argparse.Namespace, scratch: Path) -> list[Any]:
    from crash_results import Results

    tasks = _tasks(options)
    deciding = {name: getattr(options, name) for name in ("seed", "every", "states_max", "plant", "point", "fault")}
    results = Results(options.results, deciding) if options.results is not None else None
    found: list[Any] = [results.found[task] for task in tasks if task in results.found] if results is not None else []
    if found:
        tasks = [task for task in tasks if results is None or task not in results.found]
        _say(f"{len(found)} tasks were done before, {len(tasks)} are left")
    if not tasks:
        return found  # a pool without work still starts a process of its own, which the recorder would not wait for
    pool = ProcessPoolExecutor(options.jobs, get_context("spawn"), _begin, (options.plant,))
    try:
        waiting = {pool.submit(_carry_out, task, str(scratch), vars(options)): task for task in tasks}
        for done in as_completed(waiting):
            found.append(done.result())
            if results is not None:
                results.keep(waiting[done], found[-1])
            _say("!" if found[-1].violations else ".", end="")
    except KeyboardInterrupt:
        _say("\nstopped; so far:")
        for process in list((pool._processes or {}).values()):
            process.terminate()
    finally:
        _say()
        pool.shutdown(wait=True, cancel_futures=True)
    return found


# ── in a process with the recorder preloaded ────────────────────────────────────────────────────────


def _begin(planted: str | None) -> None:
    from twisted.logger import globalLogBeginner

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if planted is not None:
        plant(planted)
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)


def _carry_out(task: Task, scratch: str, options: dict[str, Any]) -> Points | Failures:
    from crash_points import hunt_failures, hunt_points
    from crash_run import Fault

    name, call = task
    path, seed, every = Path(scratch), options["seed"], options["every"]
    if call is None:
        return hunt_points(name, path, seed, options["states_max"], every, options["point"])
    only = None
    if options["fault"]:
        _, k, how = options["fault"].split(":")
        only = Fault(call, int(k.rstrip("+")), how, k.endswith("+"))
    return hunt_failures(name, path, seed, every, call, only)


# ── what is printed ─────────────────────────────────────────────────────────────────────────────────


def _print_points(rows: list[Points]) -> None:
    columns = ("writes", "syncs", "points", "states", "opened", "judged", "mended", "booted")
    _say(f"\n{'crash points of':<20}" + "".join(f"{name:>9}" for name in (*columns, "refused", "wrong")))
    totals: Counter[str] = Counter()
    for row in rows:
        figures = {name: getattr(row, name) for name in columns}
        figures |= {"refused": sum(row.refused.values()), "wrong": len(row.violations)}
        totals.update(figures)
        _say(f"{row.workload:<20}" + "".join(f"{figure:>9}" for figure in figures.values()))
    _say(f"{'all':<20}" + "".join(f"{totals[name]:>9}" for name in (*columns, "refused", "wrong")))


def _print_failures(rows: list[Failures]) -> None:
    ended: dict[str, Counter[str]] = {}
    for row in rows:
        for kind, counts in row.ended.items():
            ended.setdefault(kind, Counter()).update(counts)
    words = list(dict.fromkeys(word for counts in ended.values() for word in counts))
    _say(f"\n{'calls that failed':<20}{'runs':>9}" + "".join(f"{word:>21}" for word in words))
    for kind, counts in sorted(ended.items()):
        _say(f"{kind:<20}{counts.total():>9}" + "".join(f"{counts[word]:>21}" for word in words))
    runs, states = sum(row.runs for row in rows), sum(row.states for row in rows)
    total: Counter[str] = sum(ended.values(), Counter())
    _say(f"{'all':<20}{runs:>9}" + "".join(f"{total[word]:>21}" for word in words))
    booted = sum(row.booted for row in rows)
    _say(f"after each: started again without faults, and the power cut before and after that: {states} states,")
    _say(f"a whole member booted on {booted} of them")


def _command(options: argparse.Namespace) -> str:
    planted = f" --plant {options.plant}" if options.plant else ""
    return f"python tests/crash_points/hunt.py --states-max {options.states_max}{planted}"


if __name__ == "__main__":
    sys.exit(main())

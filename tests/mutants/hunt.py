"""Hunts mutants: how many lives does the simulation need to notice each of them, and which checker does?

    python tests/mutants/hunt.py election-longer-log-wins --seeds 50
    python tests/mutants/hunt.py --all --jobs 2 --results hunted.jsonl --table docs/mutants.md

A mutant is caught when a life of it ends with a violation, and the same life of the package as it is does not. What
the simulation does not find in so many lives must make the directed test fail that its patch names. A patch that
does not apply, a package that cannot be imported and a life that does not end are told as such; no checker gets the
credit. The exit status is 1 if a mutant survived, or was none.

With ``--results`` every verdict is written down as soon as it is known, and the next run goes on behind it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import chain, count
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any, Final

import mutant_table
from mutant_list import AREAS, HERE, Mutant, all_mutants, apply, copy_tree

CAUGHT: Final = "caught"
DIRECTED: Final = "directed test"
RUNS_AWAY: Final = "runs away"
SURVIVED: Final = "SURVIVED"
BROKEN: Final = "cannot run"
GOOD: Final = (CAUGHT, DIRECTED, RUNS_AWAY)

QUICK_TIMES: Final = 4
"""A rotating handful is drawn from mutants that were caught in this part of the lives they are given."""


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    Attributes:
        verdict: CAUGHT, DIRECTED, RUNS_AWAY, SURVIVED or BROKEN.
        digest: of its diff.
        lives: how many were lived, the last one with the violation if it was CAUGHT.
        plan, seed: of that life.
        by: the checkers that spoke, the directed test that failed, or what is wrong.
        text: what the first checker said.
    """

    name: str
    digest: str
    verdict: str
    lives: int = 0
    plan: str = ""
    seed: int = 0
    by: str = ""
    text: str = ""

    def __str__(self) -> str:
        where = f" after {self.lives} lives (plan {self.plan}, seed {self.seed})" if self.verdict == CAUGHT else ""
        return f"{self.name}: {self.verdict}{where}: {self.by or f'{self.lives} lives'}"


class Hunt:
    """Everything that the hunt for one mutant and the next have in common.

    Args:
        folder: an empty directory for the copies.
        seeds: lives for each mutant.
        plans: these alone, in turn; none: those of the mutant, and all.
        ref: of git, whose package is mutated; None: the tree as it stands.
    """

    def __init__(self, folder: Path, seeds: int, plans: Sequence[str], ref: str | None) -> None:
        self._folder = folder
        self._seeds = seeds
        self._plans = tuple(plans)
        self._lock = Lock()
        self._sound: dict[tuple[str, int], bool] = {}
        self._passes: dict[str, bool] = {}
        self._running: set[subprocess.Popen[str]] = set()
        self._ended = False
        self._whole = folder / "as-it-is"
        self._whole.mkdir()
        copy_tree(self._whole, ref)
        self._known = _plans_of(self._whole)
        unknown = [plan for plan in self._plans if plan not in self._known]
        assert not unknown, f"there are no plans {unknown}; there are {self._known}"

    def hunt(self, mutant: Mutant, survived: int = 0) -> Verdict:
        """Live, until a life ends badly; then, if none does, run its directed test.

        Args:
            survived: so many lives it has lived through before.
        """
        tree = self._copy(mutant.name)
        wrong = apply(mutant, tree)
        if wrong:
            return Verdict(mutant.name, mutant.digest, BROKEN, by=f"the patch does not apply: {wrong}")
        verdict = self._simulate(mutant, tree, survived)
        if verdict.verdict == SURVIVED and mutant.directed and self._test_tells(mutant.directed, tree):
            return Verdict(mutant.name, mutant.digest, DIRECTED, verdict.lives, by=mutant.directed)
        return verdict

    def itinerary(self, mutant: Mutant) -> list[tuple[str, int]]:
        """The (plan, seed) of its lives: every second one by one of its own plans, the others by all there are."""
        own = self._plans or tuple(plan for plan in mutant.plans if plan in self._known) or self._known
        others = self._plans or self._known
        pairs = ((own[place % len(own)], others[place % len(others)]) for place in count())
        return list(zip(chain.from_iterable(pairs), range(1, self._seeds + 1), strict=False))

    def _simulate(self, mutant: Mutant, tree: Path, survived: int) -> Verdict:
        lives = self.itinerary(mutant)
        lived = min(survived, len(lives))
        while lived < len(lives):
            told, status, complaint = self._live(tree, lives[lived:])
            lived += len(told)
            last = told[-1] if told else None
            if last is not None and last["checkers"]:
                plan, seed = last["plan"], last["seed"]
                if self._is_sound(plan, seed):
                    by = ", ".join(last["checkers"])
                    return Verdict(mutant.name, mutant.digest, CAUGHT, lived, plan, seed, by, last["text"])
            elif status in (-signal.SIGPROF, -signal.SIGALRM):
                plan, seed = lives[lived]
                return Verdict(
                    mutant.name, mutant.digest, RUNS_AWAY, lived + 1, plan, seed, f"plan {plan}, seed {seed} has no end"
                )
            elif status != 0:
                return Verdict(mutant.name, mutant.digest, BROKEN, lived, by=complaint[-300:])
        return Verdict(mutant.name, mutant.digest, SURVIVED, lived)

    def _is_sound(self, plan: str, seed: int) -> bool:
        """Whether this life of the package as it is ends well: otherwise it says nothing about a mutant."""
        with self._lock:
            if (plan, seed) not in self._sound:
                told, status, _ = self._live(self._whole, [(plan, seed)])
                self._sound[plan, seed] = status == 0 and not told[0]["checkers"]
            return self._sound[plan, seed]

    def _test_tells(self, test: str, tree: Path) -> bool:
        """Whether a directed test passes on the package as it is, and fails on the mutant."""
        with self._lock:
            if test not in self._passes:
                self._passes[test] = self._test(self._whole, test) == 0
        return self._passes[test] and self._test(tree, test) == 1

    def end(self) -> None:
        """End what runs, begin nothing more."""
        self._ended = True
        for process in list(self._running):
            process.kill()

    def _live(self, tree: Path, lives: Sequence[tuple[str, int]]) -> tuple[list[dict[str, Any]], int, str]:
        """Lives in a process of their own: what each came to, the exit status, what it complained of."""
        status, told, complaint = self._run([str(HERE / "mutant_lives.py"), str(tree)], tree, json.dumps(lives))
        return [json.loads(line) for line in told.splitlines() if line.endswith("}")], status, complaint.strip()

    def _test(self, tree: Path, test: str) -> int:
        """0: it passed; 1: it failed; anything else: it could not be run, or was left out."""
        status, told, _ = self._run(["-m", "pytest", "-q", "-x", "-m", "", "-p", "no:cacheprovider", test], tree)
        counted = "passed" if status == 0 else "failed"
        return status if re.search(rf"\d+ {counted}", told) else -1

    def _run(self, arguments: Sequence[str], tree: Path, given: str = "") -> tuple[int, str, str]:
        if self._ended:
            return -signal.SIGKILL, "", ""
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [sys.executable, *arguments],
            env=_environment(tree),
            cwd=tree,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
        ) as process:
            self._running.add(process)
            told, complaint = process.communicate(given)
            self._running.discard(process)
        return process.returncode, told, complaint

    def _copy(self, name: str) -> Path:
        """All are copies of one copy: people go on working while mutants are hunted."""
        return Path(shutil.copytree(self._whole, self._folder / name))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its options are told by ``--help``."""
    options = _options().parse_args(arguments)
    for module in ("pytest", "twisted_kv"):
        if importlib.util.find_spec(module) is None:
            raise SystemExit(f"{sys.executable} has no {module}: pip install -e '.[test]', and use that environment")
    mutants = _chosen(options)
    known = recorded(options.results) if options.results and not options.anew else {}
    verdicts = [known[mutant.digest] for mutant in mutants if is_done(known.get(mutant.digest), options.seeds)]
    left = {
        mutant: known[mutant.digest].lives if mutant.digest in known else 0
        for mutant in mutants
        if not is_done(known.get(mutant.digest), options.seeds)
    }
    _say(f"{len(mutants)} mutants, {len(left)} of them still to be hunted, {options.seeds} lives for each")
    try:
        for verdict in _hunted(left, options):
            verdicts.append(verdict)
            _say(str(verdict))
            if options.results:
                with options.results.open("a") as file:
                    file.write(line_of(verdict))
    except KeyboardInterrupt:
        _say("stopped; what is above was found")
    return _conclude(mutants, verdicts, options.table, options.seeds)


def _conclude(mutants: Sequence[Mutant], verdicts: Sequence[Verdict], table: Path | None, seeds: int) -> int:
    figures = {verdict: sum(found.verdict == verdict for found in verdicts) for verdict in (*GOOD, SURVIVED, BROKEN)}
    _say(
        f"{len(verdicts)} mutants: " + ", ".join(f"{number} {verdict}" for verdict, number in figures.items() if number)
    )
    for found in verdicts:
        if found.verdict not in GOOD:
            _say(f"  {found}")
            _say(f"  again: python tests/mutants/hunt.py {found.name} --seeds {seeds} --anew")
    if table is not None:
        mutant_table.write(table, all_mutants(), {found.name: asdict(found) for found in verdicts})
    return 0 if len(verdicts) == len(mutants) and all(found.verdict in GOOD for found in verdicts) else 1


def rotated(number: int, seeds: int, seed: int) -> list[Mutant]:
    """So many of those that the page calls quick, given that many lives; others for another seed."""
    quick = [mutant for mutant in all_mutants() if 0 < mutant_table.lives(mutant.name) * QUICK_TIMES <= seeds]
    if not quick:
        raise SystemExit("docs/mutants.md calls none of them quick: hunt --all with --table first")
    return sorted(Random(seed).sample(quick, min(number, len(quick))), key=lambda mutant: mutant.name)


def is_done(verdict: Verdict | None, seeds: int) -> bool:
    """Whether another hunt for so many lives would say the same."""
    return verdict is not None and (verdict.verdict in (CAUGHT, RUNS_AWAY) or verdict.lives >= seeds)


def _hunted(mutants: Mapping[Mutant, int], options: argparse.Namespace) -> Iterator[Verdict]:
    if not mutants:
        return
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        hunt = Hunt(
            Path(folder), options.seeds, [] if options.plans == "auto" else options.plans.split(","), options.ref
        )
        pool = ThreadPoolExecutor(options.jobs)
        try:
            for done in as_completed([pool.submit(hunt.hunt, *known) for known in mutants.items()]):
                yield done.result()
        finally:
            hunt.end()
            pool.shutdown(cancel_futures=True)


def _chosen(options: argparse.Namespace) -> list[Mutant]:
    if options.rotate:
        seed = options.rotation if options.rotation is not None else int(time.time()) // 86_400
        _say(f"{options.rotate} quick mutants, drawn by --rotation {seed}")
        return rotated(options.rotate, options.seeds, seed)
    mutants = all_mutants()
    if options.all:
        return mutants
    names = {mutant.name for mutant in mutants}
    strangers = [name for name in options.names if name not in names]
    if strangers or not (options.names or options.area):
        raise SystemExit(
            f"there is no mutant {strangers[0]}" if strangers else "which? NAME, --area, --rotate or --all"
        )
    return [mutant for mutant in mutants if mutant.name in options.names or mutant.area == options.area]


def line_of(verdict: Verdict) -> str:
    """A verdict as the results keep it."""
    return json.dumps(asdict(verdict)) + "\n"


def recorded(path: Path) -> dict[str, Verdict]:
    """Digest of a patch → what became of it; the last word counts."""
    lines = path.read_text().splitlines() if path.exists() else []
    verdicts = [Verdict(**json.loads(line)) for line in lines]
    return {verdict.digest: verdict for verdict in verdicts}


def _plans_of(tree: Path) -> tuple[str, ...]:
    told = subprocess.run(
        [sys.executable, "-c", "from twisted_kv.simulation.lives.run import PLANS; print(*PLANS)"],
        env=_environment(tree),
        cwd=tree,
        check=True,
        capture_output=True,
        text=True,
    )
    return tuple(told.stdout.split())


def _environment(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="How many lives does it take to notice each mutant?")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--area", choices=AREAS)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--rotate", type=int, metavar="K", help="K of those that were caught quickly, others each day")
    parser.add_argument("--rotation", type=int, metavar="SEED", help="what --rotate draws by; the day, if not given")
    parser.add_argument("--seeds", type=int, default=1000, help="lives for each mutant (1000)")
    parser.add_argument("--plans", default="auto", help="auto: those of the mutant and all; or names, with commas")
    parser.add_argument("--jobs", type=int, default=1, help="mutants hunted at once (1)")
    parser.add_argument("--ref", help="of git, whose package is mutated; the tree as it stands, if not given")
    parser.add_argument("--results", type=Path, help="a file that keeps the verdicts, so that a hunt can go on")
    parser.add_argument("--anew", action="store_true", help="hunt also what the results know")
    parser.add_argument("--table", type=Path, help="a page whose table is written anew")
    return parser


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # also in the background, where a shell lets them be ignored
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())

"""What became of a life, for people: the verdict, the violations, and a story short enough to be read.

Decides what a person is shown and in which order. It judges nothing, and runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

import msgspec

from twisted_kv.simulation.doors.world import Event
from twisted_kv.simulation.judges.checkers import Violation

STORY_LINES_MAX: Final = 40
ALIKE_MAX: Final = 3
"""So many violations of one checker are shown, the first ones."""
TEXT_LINES_MAX: Final = 12
"""Of one violation: a traceback is shown by its end."""
TEXT_CHARS_MAX: Final = 140
"""Of one event; the trace has all of it."""
RUN: Final = "run"
"""The actor that tells where a phase begins."""
NEMESIS: Final = "nemesis"
JUDGE: Final = "judge"
"""The actor that tells when something was found."""
PHASE_LINES: Final = 6
"""Of a phase other than that in which something was found first."""

OK: Final = "ok"
VIOLATED: Final = "VIOLATION"
VOID: Final = "void"


class Report(msgspec.Struct, frozen=True):
    """What became of a run.

    Attributes:
        violations: none: all is well.
        story: what happened besides the traffic, shortened (``shortened``).
        digest: of the whole trace; the same for the same seed, plan and program.
        figures: how much was done, for people.
        reached: name of a rare event (simulation/doors/rare.py) → how often it was seen.
        void: why nothing follows from this run, though nothing was found; "" if something does.
    """

    seed: int
    plan: str
    violations: tuple[Violation, ...]
    story: tuple[str, ...]
    digest: str
    figures: Mapping[str, float]
    reached: Mapping[str, int] = {}
    void: str = ""

    @property
    def verdict(self) -> str:
        """OK, VIOLATED or VOID."""
        if self.violations:
            return VIOLATED
        return VOID if self.void else OK

    def __str__(self) -> str:
        head = f"seed {self.seed}, plan {self.plan}: {self.verdict}"
        if self.verdict == VOID:
            return f"{head}: {self.void}"
        if self.verdict == OK:
            return f"{head} ({', '.join(f'{name} {value:g}' for name, value in self.figures.items())})"
        found = [line for alike in _by_checker(self.violations) for line in _told_together(alike)]
        story = ["  what happened before:", *(f"    {line}" for line in self.story)]
        return "\n".join([head, *found, *story, f"  replay: {replay_command(self.seed, self.plan)}"])


def replay_command(seed: int, plan: str) -> str:
    """What a person types to see a run again."""
    return f"twisted-kv simulate --seed {seed} --plan {plan} --trace"


def shortened(story: Iterable[Event], violations: Sequence[Violation], lines_max: int = STORY_LINES_MAX) -> list[str]:
    """The story as a person wants to read it: phase by phase, with those whom the violations name, repeats as one.

    The members of a group that is named are named with it; if nobody is, everybody's part is told. What is left out
    is counted where it was.

    Args:
        story: all that was told, in order.
        lines_max: how long the answer may be, at least 3 for each phase.
    """
    events = list(story)
    named = _named(violations)
    phases: list[list[Event]] = [[]]
    for event in events:
        if event.actor == RUN:
            phases.append([])
        phases[-1].append(event)
    told = [_merged(_concerning(phase, named)) for phase in phases if phase]
    finding = next((number for number, phase in enumerate(told) if any(map(_is_finding, phase))), None)
    lines: list[str] = []
    for number, phase in enumerate(told):
        # What was found first matters most, else the end: what room the earlier phases do not need goes to the later.
        left = lines_max - len(lines)
        after = len(told) - number - 1
        if finding is None or number > finding:
            room = left // (after + 1)
        else:
            room = left - PHASE_LINES * after if number == finding else PHASE_LINES
        lines += _fitted(phase, room)
    return lines


def _by_checker(violations: Sequence[Violation]) -> Iterable[list[Violation]]:
    kinds: dict[str, list[Violation]] = {}
    for violation in violations:
        kinds.setdefault(violation.checker, []).append(violation)
    return kinds.values()


def _told_together(alike: Sequence[Violation]) -> list[str]:
    lines = [line for violation in alike[:ALIKE_MAX] for line in _told(violation)]
    more = len(alike) - ALIKE_MAX
    return lines if more <= 0 else [*lines, f"  {alike[0].checker}: … {more} more"]


def _told(violation: Violation) -> list[str]:
    first, *rest = str(violation).strip().split("\n")
    if len(rest) > TEXT_LINES_MAX:
        rest = [f"… {len(rest) - TEXT_LINES_MAX} lines …", *rest[-TEXT_LINES_MAX:]]
    return [f"  {first}", *(f"      {line}" for line in rest)]


def _named(violations: Sequence[Violation]) -> set[str]:
    """Members, and groups as the beginnings of their members' names, that a violation speaks of."""
    text = "\n".join(violation.text for violation in violations)
    members = set(re.findall(r"\b(?:g\d+|rival\d+|ctl)-\d+\b", text))
    for gid in map(int, re.findall(r"\bgroups? (-?\d+)\b", text)):
        members.add(f"g{gid}-" if gid > 0 else f"rival{-gid}-" if gid < 0 else "ctl-")
    return members


def _concerning(phase: Sequence[Event], named: set[str]) -> Iterator[Event]:
    """What phases and the nemesis say, and those who are named say.

    A fault whose victim is another one is left out: it is told by the victim's own words at the same moment.
    """
    for _, together in groupby(phase, key=lambda event: event.at):
        moment = list(together)
        members = [event for event in moment if event.actor not in (RUN, NEMESIS, JUDGE)]
        concerned = [event for event in members if any(event.actor.startswith(name) for name in named)]
        for event in moment:
            of_others = named and members and not concerned
            always = event.actor in (RUN, JUDGE) or (event.actor == NEMESIS and not of_others)
            if always or event in concerned or not named:
                yield event


def _merged(events: Iterable[Event]) -> list[str]:
    """One line for each event; one for a row of equal ones."""
    lines = []
    for (actor, text), row in groupby(events, key=lambda event: (event.actor, _text(event))):
        same = list(row)
        times = f" (×{len(same)}, until {same[-1].at:.3f})" if len(same) > 1 else ""
        if actor == RUN:
            lines.append(f"── {same[0].at:.3f} s: {text}{times}")
        else:
            lines.append(f"{same[0].at:9.3f} {actor:<9} {text}{times}")
    return lines


def _text(event: Event) -> str:
    facts = " ".join(f"{name}={value}" for name, value in event.facts)
    text = f"{event.what} {facts}".rstrip()
    return text if len(text) <= TEXT_CHARS_MAX else text[: TEXT_CHARS_MAX - 1] + "…"


def _is_finding(line: str) -> bool:
    return line[10 : 10 + len(JUDGE)] == JUDGE


def _fitted(lines: list[str], room: int) -> list[str]:
    """The first line, and as many as there is room for up to what was found first, or to the end."""
    if len(lines) <= room:
        return lines
    end = next((place + 2 for place, line in enumerate(lines) if _is_finding(line)), len(lines))
    end = min(end, len(lines))
    begin = max(end - max(room - 3, 1), 1)
    before = [f"          … {begin - 1} more …"] if begin > 1 else []
    behind = [f"          … {len(lines) - end} more …"] if end < len(lines) else []
    return [lines[0], *before, *lines[begin:end], *behind]

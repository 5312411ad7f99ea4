"""The tables of docs/mutants.md: mutant → lives needed → checker; and hazard → mutants. Written here, read here.

What the page says is the record: a rotating handful is drawn from what it calls quick, and a test holds it to the list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from mutant_list import ROOT, Mutant, by_hazard

PAGE: Final = ROOT / "docs" / "mutants.md"
_HEAD: Final = (
    "| mutant | what is broken | hazards | public | lives | plan, seed | found by |\n|---|---|---|---|---|---|---|"
)


def write(page: Path, mutants: Sequence[Mutant], verdicts: Mapping[str, Mapping[str, Any]]) -> None:
    """Write both tables anew; rows of mutants that were not hunted now stay as they are."""
    text = page.read_text()
    rows = _rows(text)
    rows |= {mutant.name: _row(mutant, verdicts[mutant.name]) for mutant in mutants if mutant.name in verdicts}
    text = _replaced(
        text, "mutants", "\n".join([summary(rows, mutants), "", _HEAD, *(rows[name] for name in sorted(rows))])
    )
    page.write_text(_replaced(text, "hazards", hazards(mutants)))


def summary(rows: Mapping[str, str], mutants: Sequence[Mutant]) -> str:
    """How far the hunt is, in one sentence."""
    cells = [[cell.strip() for cell in row.split("|")] for row in rows.values()]
    lived = sum(row[5].isdigit() for row in cells)
    directed = sum(row[7].startswith("`") for row in cells)
    return (
        f"Of {len(mutants)} mutants {lived} were caught by simulation and {directed} by their directed test; "
        f"{len(cells) - lived - directed} lived through all that was hunted so far, {len(mutants) - len(cells)} were "
        "not hunted yet."
    )


def hazards(mutants: Sequence[Mutant]) -> str:
    """The table hazard → mutants."""
    lines = [f"| {number} | {' · '.join(names)} |" for number, names in by_hazard(mutants).items()]
    return "\n".join(["| hazard | mutants |", "|---|---|", *lines])


def lives(name: str) -> int:
    """How many lives the simulation needed for a mutant, as the page says; 0 if it says none."""
    row = rows_of_page().get(name, "")
    cells = [cell.strip() for cell in row.split("|")]
    return int(cells[5]) if len(cells) > 5 and cells[5].isdigit() else 0


@cache
def rows_of_page() -> Mapping[str, str]:
    """Name of a mutant → its row, as the page says."""
    return _rows(PAGE.read_text())


def _rows(text: str) -> dict[str, str]:
    return {line.split("|")[1].strip(" `"): line for line in _between(text, "mutants").splitlines() if "`" in line[:4]}


def _row(mutant: Mutant, verdict: Mapping[str, Any]) -> str:
    caught = verdict["verdict"] == "caught"
    numbers = [*map(str, mutant.hazards), *(f"S{scenario}" for scenario in mutant.scenarios)]
    cells = [
        f"`{mutant.name}`",
        mutant.breaks.removesuffix("."),
        ", ".join(numbers),
        mutant.public,
        str(verdict["lives"]) if caught else "—",
        f"{verdict['plan']} {verdict['seed']}" if caught else "",
        verdict["by"] if caught else _directed(verdict),
    ]
    return f"| {' | '.join(cell.replace('|', '∣') for cell in cells)} |"


def _directed(verdict: Mapping[str, Any]) -> str:
    if verdict["verdict"] == "directed test":
        return f"`{verdict['by'].removeprefix('tests/')}`"
    return f"{verdict['verdict']} ({verdict['lives']} lives)"


def _between(text: str, what: str) -> str:
    found = re.search(rf"<!-- {what} -->\n(.*?)<!-- end of {what} -->", text, re.DOTALL)
    assert found, f"no place for the table of {what}"
    return found[1]


def _replaced(text: str, what: str, table: str) -> str:
    _between(text, what)
    head, rest = text.split(f"<!-- {what} -->\n")
    _, tail = rest.split(f"<!-- end of {what} -->")
    return f"{head}<!-- {what} -->\n\n{table}\n\n<!-- end of {what} -->{tail}"

"""What a mutant is, and a copy of the package with it: reads the patches, applies them, judges nothing.

The form of a patch is told in README.md beside this file. A patch is applied with ``git apply`` to a copy outside the
repository, so that the tree in which people work never holds a fault.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
REPLACED = HERE / "replaced.md"

AREAS = (
    "election",
    "replication",
    "reads",
    "storage",
    "snapshots",
    "sessions",
    "migration",
    "controller",
    "client",
    "corridor",
)
SIMULATION = "simulation"
KEYS = ("Name", "Area", "Breaks", "Hazards", "Public", "Plan", "Expect", "Replaces")
OPTIONAL = ("Public", "Replaces")
COPIED = ("twisted_kv", "twisted", "tests", "docs", "pyproject.toml", "setup.py", "README.md")
_GAP = "\n\n--- a/"
_ITEM = re.compile(r"\d+|S[\d.]*\d")


class BadPatch(Exception):
    """A header that does not say what README.md asks for."""


@dataclass(frozen=True)
class Mutant:
    """One patch.

    Attributes:
        hazards: numbers of the list of hazards.
        scenarios: numbers of the scenarios, without their ``S``.
        plans: which of the simulation's plans hunt it first.
        expect: SIMULATION, or the id of the directed test that must fail on it.
        digest: of its diff; another fault is another mutant, whatever its name.
    """

    name: str
    area: str
    breaks: str
    hazards: tuple[int, ...]
    scenarios: tuple[str, ...]
    public: str
    plans: tuple[str, ...]
    expect: str
    replaces: str
    path: Path
    digest: str

    @property
    def directed(self) -> str:
        """The test that must fail on it, "" if the simulation is expected to find it."""
        return "" if self.expect == SIMULATION else self.expect


def all_mutants(folder: Path = HERE) -> list[Mutant]:
    """Every patch of the folder, by name.

    Raises:
        BadPatch: one of them has no good header.
    """
    return [read_mutant(path) for path in sorted(folder.glob("*.patch"))]


def read_mutant(path: Path) -> Mutant:
    """The header of a patch.

    Raises:
        BadPatch: it does not say what it must, or says it twice, or something else.
    """
    text = path.read_text()
    facts = dict(_facts(path.name, text))
    for key in KEYS:
        if key not in facts and key not in OPTIONAL:
            raise BadPatch(f"{path.name} does not say its {key}")
    if facts["Name"] != path.stem or facts["Area"] not in AREAS:
        raise BadPatch(f"{path.name}: its name is {facts['Name']}, its area {facts['Area']}")
    items = [item.strip() for item in facts["Hazards"].split(",")]
    if not all(_ITEM.fullmatch(item) for item in items):
        raise BadPatch(f"{path.name}: {facts['Hazards']} are no hazards")
    if not re.fullmatch(rf"{SIMULATION}|tests/[\w/]+\.py::test_\w+", facts["Expect"]):
        raise BadPatch(f"{path.name}: {facts['Expect']} is neither a test nor the {SIMULATION}")
    return Mutant(
        name=facts["Name"],
        area=facts["Area"],
        breaks=facts["Breaks"],
        hazards=tuple(int(item) for item in items if item[0] != "S"),
        scenarios=tuple(item[1:].removeprefix("3.") for item in items if item[0] == "S"),
        public=facts.get("Public", ""),
        plans=tuple(plan.strip() for plan in facts["Plan"].split(",")),
        expect=facts["Expect"],
        replaces=facts.get("Replaces", ""),
        path=path,
        digest=f"{zlib.crc32(text.partition(_GAP)[2].encode()):08x}",
    )


def by_hazard(mutants: Sequence[Mutant]) -> Mapping[int, list[str]]:
    """Number of a hazard → names of the mutants that are one."""
    found: dict[int, list[str]] = {}
    for mutant in mutants:
        for number in mutant.hazards:
            found.setdefault(number, []).append(mutant.name)
    return dict(sorted(found.items()))


def patched_files(mutant: Mutant) -> tuple[str, ...]:
    """The files that it changes, from the root of the repository."""
    return tuple(re.findall(r"^\+\+\+ b/(\S+)$", mutant.path.read_text(), re.MULTILINE))


def copy_tree(target: Path, ref: str | None = None) -> None:
    """A copy of what is needed to run the package and its tests.

    Args:
        target: a directory that is there and empty.
        ref: of git; None: the tree as it stands, whatever of it is committed.
    """
    if ref is not None:
        archive = subprocess.run(["git", "-C", ROOT, "archive", ref], check=True, capture_output=True)
        subprocess.run(["tar", "-x", "-C", target], input=archive.stdout, check=True)
        return
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"))
        else:
            shutil.copy(source, target)


def apply(mutant: Mutant, tree: Path) -> str:
    """Plant the fault in a copy.

    Returns:
        what is wrong with the patch; "" if it applied.
    """
    applied = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", mutant.path],
        cwd=tree,
        # Below a repository git would apply a patch to nothing, and say that all is well.
        env={"GIT_CEILING_DIRECTORIES": str(tree.parent), "PATH": _path()},
        capture_output=True,
        text=True,
    )
    return applied.stderr.strip() if applied.returncode else ""


def _path() -> str:
    return str(Path(shutil.which("git") or "/usr/bin/git").parent)


def _facts(name: str, text: str) -> Iterator[tuple[str, str]]:
    head, gap, _ = text.partition(_GAP)
    if not gap:
        raise BadPatch(f"{name} has no header that ends with an empty line, or no diff behind it")
    seen = set()
    for line in re.sub(r"\n +", " ", head).splitlines():
        key, colon, value = line.partition(": ")
        if not colon or key not in KEYS or key in seen or not value.strip():
            raise BadPatch(f"{name}: what does {line!r} say?")
        seen.add(key)
        yield key, value.strip()

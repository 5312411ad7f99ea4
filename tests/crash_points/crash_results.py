"""What the tasks of a hunt have found, one line of JSON each, so that a hunt that was stopped goes on where it was.

A line counts for the program and the options that it was found with, and for no other. The program is all that a
server runs, and the hunt itself. What is found and how it is printed, others decide.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from crash_points import Failures, Points
from crash_recording import Call

import twisted_kv

Task = tuple[str, Call | None]

_BESIDE: Final = ("simulation/", "admin/", "testing.py", "test_", Path(__file__).name)
"""What no server runs, and what decides nothing here."""


class Results:
    """A file of what was found.

    Args:
        file: made when there is something to write.
        options: everything that decides what a task finds, beside the program.

    Attributes:
        found: task → what it has found, in an earlier sitting or in this one.
    """

    def __init__(self, file: Path, options: Mapping[str, Any]) -> None:
        self._file = file
        self._of = json.dumps([program_digest(), sorted(options.items())])
        self.found: dict[Task, Points | Failures] = {}
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        if lines and not lines[-1].endswith("\n"):  # it was being written when the power failed
            file.write_text("".join(lines[:-1]))
            lines.pop()
        for line in map(json.loads, lines):
            if line["of"] == self._of:
                self.found[line["workload"], _call(line["call"])] = _read(line["found"])

    def keep(self, task: Task, found: Points | Failures) -> None:
        """A task is done."""
        self.found[task] = found
        workload, call = task
        line = {"of": self._of, "workload": workload, "call": None if call is None else call.name}
        with self._file.open("a") as file:
            file.write(json.dumps(line | {"found": vars(found)}) + "\n")


def program_digest() -> str:
    """Of the source of all that a server runs, and of this hunt; not of this file, nor of tests."""
    package, here = Path(str(twisted_kv.__file__)).parent, Path(__file__).parent
    sha = hashlib.sha256()
    for top, pattern in ((package, "**/*.py"), (here, "*.py"), (here, "*.c")):
        for path in sorted(top.glob(pattern)):
            name = path.relative_to(top).as_posix()
            if not name.startswith(_BESIDE):
                sha.update(name.encode() + b"\0" + path.read_bytes())
    return sha.hexdigest()[:12]


def _call(name: str | None) -> Call | None:
    return None if name is None else Call[name]


def _read(facts: dict[str, Any]) -> Points | Failures:
    facts["violations"] = [(text, replay) for text, replay in facts["violations"]]
    if "ended" in facts:
        return Failures(**facts | {"ended": {kind: Counter(counts) for kind, counts in facts["ended"].items()}})
    return Points(**facts | {"refused": Counter(facts["refused"])})

"""Runs a workload in forks of this process, and carries its record back.

Decides how a life ends and what that is called. This process must have the recorder preloaded; it opens no file of a
workload itself while one runs.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import traceback
from pathlib import Path
from typing import Final, NamedTuple

from crash_judge import REPLICA
from crash_members import MEMBERS
from crash_recording import Call, Record, Recorder, records
from crash_stage import Stopped
from crash_workloads import WORKLOADS, GaveUp, MarkedDirectory, StartBroke, Workload

from twisted_kv.consensus.types import HardState, Ready
from twisted_kv.errors import StartRefused
from twisted_kv.interfaces import SaveRefused
from twisted_kv.storage.schema import DATA, LOG, image

# Made once here, for it takes longer than all the rest of a run; every fork has them then.
for kind in (LOG, DATA):
    image(kind)

BY_NAME: Final = {workload.name: workload for workload in (*WORKLOADS, *MEMBERS)}

DONE: Final = "went on to the end"
STOPPED: Final = "stopped"
REFUSED: Final = "refused to start"
WAITED: Final = "waited for room"
KILLED: Final = "was killed"
BROKE: Final = "broke"

_KILLED_STATUS: Final = 137


class Fault(NamedTuple):
    """Which call fails, and how."""

    call: Call
    k: int
    how: str
    for_ever: bool = False

    def __str__(self) -> str:
        return f"{self.call.name.lower()} {self.k}{' and all after' if self.for_ever else ''}: {self.how}"


class Run(NamedTuple):
    """What one run left.

    Attributes:
        ended: one word per life.
        why: the exception that ended the last life, one line.
        hit: whether the fault was reached.
    """

    log: list[Record]
    ended: tuple[str, ...]
    why: str
    hit: bool


def run(workload: Workload, scratch: Path, fault: Fault | None = None) -> Run:
    """All lives of a workload; with a fault, in the first of which it strikes, one more life without any.

    The life after a fault opens the directory and saves once more: what a restarted server does.
    """
    home = Path(tempfile.mkdtemp(dir=scratch))
    try:
        root, log = home / "disk", home / "log"
        root.mkdir()
        lives = list(workload.lives)
        ended: list[str] = []
        why = ""
        hit = False
        count_before = 0
        for life in lives:
            word, why, counts = _life(life, root, log, fault if not hit else None, count_before)
            ended.append(word)
            if fault is not None:
                count_before += counts
                hit = any(record.kind == "F" for record in records(str(log)))
                if hit:
                    break
        if fault is not None and hit:
            word, late, _ = _life(_after, root, log, None, 0)
            ended.append(word)
            why = why if word == DONE else f"{why}; then {late}"
        return Run(list(records(str(log))), tuple(ended), why, hit)
    finally:
        shutil.rmtree(home)


def _after(recorder: Recorder, path: str) -> None:
    directory = MarkedDirectory(recorder, path)
    term = directory.log.hard_state().term
    directory.log.save(Ready(hard_state=HardState(term + 1, 1)))
    directory.close()


def _life(life: object, root: Path, log: Path, fault: Fault | None, count_before: int) -> tuple[str, str, int]:
    """One life in a fork. Returns how it ended, why, and how many calls of the fault's kind it made."""
    report = root.parent / "report"
    report.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        word, why, calls = BROKE, "", 0
        try:
            recorder = Recorder()
            recorder.begin(str(root), str(log))
            if fault is not None:
                recorder.fail(fault.call, max(1, fault.k - count_before), fault.how, fault.for_ever)
            word, why = _lived(life, recorder, str(root / REPLICA))
            calls = recorder.count(fault.call) if fault is not None else 0
            recorder.mark("ended", word)
        finally:
            report.write_text(f"{word}\n{calls}\n{why}")
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if not report.exists():
        code = os.waitstatus_to_exitcode(status)
        return (KILLED, "", 0) if code == _KILLED_STATUS else (BROKE, f"the process ended with {code}", 0)
    word, count, why = report.read_text().split("\n", 2)
    return word, why, int(count)


def _lived(life: object, recorder: Recorder, path: str) -> tuple[str, str]:
    try:
        life(recorder, path)  # type: ignore[operator]
    except StartRefused as error:
        return REFUSED, str(error)
    except (GaveUp, SaveRefused) as error:
        return WAITED, repr(error)
    except Stopped as stopped:
        cause = stopped.__cause__
        if isinstance(cause, StartRefused):
            return REFUSED, str(cause)
        if isinstance(cause, sqlite3.Error | OSError | SaveRefused):
            return STOPPED, repr(cause)
        return BROKE, _told(cause)
    except StartBroke as error:
        return BROKE, f"a start that fails has to say StartRefused: {_told(error.__cause__)}"
    except (sqlite3.Error, OSError) as error:
        return STOPPED, repr(error)
    except BaseException as error:
        return BROKE, _told(error)
    return DONE, ""


def _told(error: BaseException | None) -> str:
    lines = traceback.format_exception(error)
    return f"{error!r} " + " < ".join(line.split("\n")[0].strip() for line in reversed(lines) if "File" in line)[:900]

"""Lives of one copy of the package, in a process of its own: ends with the first one in which something was found.

Started by ``hunt`` with PYTHONPATH on the copy. Takes the lives to live as JSON, tells one JSON line per life. A life
that uses more processor than any sound one is ended by the kernel (SIGPROF), one that waits for ever by SIGALRM: both
end this process, and whoever reads sees it by the signal.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Final

CPU_SECONDS_MAX: Final = 60.0
WALL_SECONDS_MAX: Final = 1200.0


def main(tree: str, lives: list[tuple[str, int]]) -> int:
    """Live them one by one.

    Args:
        tree: the copy; the package must come from there.
        lives: (plan, seed).
    Returns:
        exit status.
    """
    from twisted_kv.simulation.lives import run

    assert run.__file__.startswith(f"{tree}/"), f"{run.__file__} is not in {tree}"
    run.be_silent()
    for plan, seed in lives:
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS_MAX)
        signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS_MAX)
        report = run.run_seed(seed, run.PLANS[plan])
        checkers = list(dict.fromkeys(violation.checker for violation in report.violations))
        text = report.violations[0].text if report.violations else ""
        sys.stdout.write(json.dumps({"plan": plan, "seed": seed, "checkers": checkers, "text": text[:2000]}) + "\n")
        sys.stdout.flush()
        if checkers:
            break
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], json.load(sys.stdin)))

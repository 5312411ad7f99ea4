"""``python benchmarks/overload.py``: load far beyond saturation (overloads, docs/benchmarks.md)."""

import sys
from pathlib import Path

# In place of this directory: the names of its modules are found as benchmarks.NAME, and only so.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.command import main  # noqa: E402
from benchmarks.overloads import command  # noqa: E402

if __name__ == "__main__":
    main(command)

"""``python benchmarks/large.py``: what a million keys cost, in one group (million, docs/benchmarks.md)."""

import sys
from pathlib import Path

# In place of this directory: the names of its modules are found as benchmarks.NAME, and only so.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.command import main  # noqa: E402
from benchmarks.million import command  # noqa: E402

if __name__ == "__main__":
    main(command)

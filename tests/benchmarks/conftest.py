"""Lets tests import ``benchmarks``, which is no part of the package. Last on the path: the package comes first."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent.parent))

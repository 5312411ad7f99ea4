"""Lets the rooms use the contract suites that stand above them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

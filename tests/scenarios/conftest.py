"""Lets the scenarios use the worlds that stand beside the rooms they test."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "consensus"))

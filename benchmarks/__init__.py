"""Ours beside its peers, measured in one run on one machine; ``python benchmarks/run.py`` (docs/benchmarks.md)."""

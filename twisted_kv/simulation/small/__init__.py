"""Consensus cores alone: a few of them, each with a disk in memory, on a network that forgets nothing."""

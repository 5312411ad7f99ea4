"""Clerks: find the server that can do it, and say honestly whether it was done."""

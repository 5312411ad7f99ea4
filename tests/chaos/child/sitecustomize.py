"""Runs first in every server of a chaos run: it dies with the harness, its wall clock can be shifted, and it may be
sabotaged on purpose (plants.py)."""

import ctypes
import os
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_CLOCK = os.path.join(os.environ.get("CHAOS_CONTROL", ""), "clock")


def _die_with_the_harness():
    """Also when the harness is killed by SIGKILL, where no clean-up of its own could run."""
    libc = ctypes.CDLL(None)
    if sys.platform == "linux":
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(os.environ["CHAOS_PARENT"]):
            os._exit(1)


def _shifted(real=time.time, path=_CLOCK):
    try:
        with open(path) as file:
            return real() + float(file.read() or 0)
    except FileNotFoundError:
        return real()


if "CHAOS_CONTROL" in os.environ:
    _die_with_the_harness()
    # Before Twisted takes the name for its reactor and its log.
    time.time = _shifted
    if "CHAOS_PLANT" in os.environ:
        import plants

        plants.plant(os.environ["CHAOS_PLANT"])

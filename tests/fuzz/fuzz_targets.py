"""What a target is: something that takes inputs and says what became of each.

An input is made of None, bool, int, float, bytes, str and lists only, so it can be written to a file and fed again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from random import Random
from typing import Any, ClassVar, NamedTuple


class Verdict(NamedTuple):
    """What became of an input.

    Attributes:
        framed: it passed the outermost form, so the rules behind that form were asked.
        reason: with what words it was refused, or that it was not; one of few.
    """

    framed: bool
    reason: str


class Target(ABC):
    """One life of one target: inputs of a life may depend on each other, lives do not.

    Attributes:
        name: on the command line.
        share: of all inputs, when no target is named.
        life: how many inputs one life takes.
        seconds_max: processor time of one input beyond which it is a finding.
        bytes_max: growth of the process by one input beyond which it is a finding.
        worn: this life has done what it could; begin another.
    """

    name: ClassVar[str]
    share: ClassVar[float]
    life: ClassVar[int] = 5000
    seconds_max: ClassVar[float] = 1.0
    bytes_max: ClassVar[int] = 64 << 20
    worn: Any = False

    # Not every target makes something, judges in the end, or has something to give up.

    def __init__(self, seed: int, life: int = 0) -> None:  # noqa: B027
        """Make everything that inputs are fed to; ``seed`` is of this life, ``life`` its number."""

    @abstractmethod
    def draw(self, random: Random) -> Any:
        """An input."""

    @abstractmethod
    def feed(self, given: Any) -> Verdict:
        """Take an input.

        Raises:
            Finding: a rule is broken. Any other exception is a finding too.
        """

    def finish(self) -> None:  # noqa: B027
        """Judge what a life has left behind."""

    def close(self) -> None:  # noqa: B027
        """Give up what was made."""

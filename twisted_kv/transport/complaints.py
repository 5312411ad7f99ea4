"""How much is logged about what others do wrong: a few lines a second, the rest only counted.

A stranger who sends a hundred thousand bad calls must not fill the disk (hazards S13). What comes from outside
is escaped and cut short before it reaches a log or an error text (``shown``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from twisted.logger import Logger, LogLevel

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

SHOWN_MAX: Final = 60

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Complaints:
    """A bucket of ``burst`` log lines, refilled by ``per_second``; the next line says how many were left out.

    >>> from twisted.internet.task import Clock
    >>> Complaints(Clock(), burst=0).suppressed
    0
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, burst: int = 10, per_second: float = 0.5) -> None:
        self._clock = clock
        self._burst = burst
        self._per_second = per_second
        self._tokens = float(burst)
        self._filled_at = clock.seconds()
        self.suppressed = 0

    def warn(self, message: str, **fields: Any) -> None:
        """Log a warning about what another side did, or count it."""
        if self._allowed():
            self.log.emit(LogLevel.warn, message, suppressed=self._counted(), **fields)

    def failure(self, message: str, failure: Failure, **fields: Any) -> None:
        """Log an unexpected exception with its traceback, or count it."""
        if self._allowed():
            self.log.failure(message, failure, suppressed=self._counted(), **fields)

    def _allowed(self) -> bool:
        now = self._clock.seconds()
        earned = max(0.0, now - self._filled_at) * self._per_second
        self._filled_at = now
        self._tokens = min(float(self._burst), self._tokens + earned)
        if self._tokens < 1:
            self.suppressed += 1
            return False
        self._tokens -= 1
        return True

    def _counted(self) -> int:
        count, self.suppressed = self.suppressed, 0
        return count


def escaped(text: str) -> str:
    r"""Text with its control characters and lone surrogates written out.

    >>> escaped("a\nb\x1b[31m")
    'a\\nb\\x1b[31m'
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def shown(name: bytes | str) -> str:
    """A name that a stranger chose, fit for a log line: escaped, at most SHOWN_MAX characters."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    return escaped(text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + "…")

"""The command line of the three services, as twistd reads it.

Turns the table in ``settings`` into ``usage.Options`` and what was given into Settings. Whatever is wrong ends the
program with one line on standard error and status 1: a UsageError would have twistd print its whole help first, and
all of it on standard output.
"""

from __future__ import annotations

import sys
import tomllib
from typing import Any, ClassVar, NoReturn

from twisted.python import usage

from twisted_kv._version import __version__
from twisted_kv.service.settings import BadSettings, Kind, Settings, options_of, settings_from


class ServiceOptions(usage.Options):
    """Options of one service; after parsing, ``settings`` holds what they mean.

    Subclasses name their ``kind`` and take their parameters and flags from ``parameters_of`` and ``flags_of``.
    """

    kind: ClassVar[Kind]
    settings: Settings

    def __init__(self) -> None:
        super().__init__()
        self._repeated: dict[str, list[str]] = {}

    def parseOptions(self, options: Any = None) -> None:
        """Read a command line.

        Raises:
            SystemExit: with the line that says what is wrong.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise SystemExit(self._line(f"{error} (--help lists the options)")) from None

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        sys.stdout.write(f"twisted-kv {__version__}\n")
        raise SystemExit(0)

    def postOptions(self) -> None:
        try:
            config = _read_toml(self["config"]) if self["config"] else {}
            self.settings = settings_from(self.kind, self._given(), config)
        except BadSettings as error:
            raise SystemExit(self._line(str(error))) from None

    def _line(self, text: str) -> str:
        return f"kv-{self.kind}: {' '.join(text.split())}"

    def _given(self) -> dict[str, Any]:
        given: dict[str, Any] = dict(self._repeated)
        for option in options_of(self.kind):
            if option.flag:
                if self[option.name]:
                    given[option.name] = True
            elif not option.repeats and self[option.name] is not None:
                given[option.name] = self[option.name]
        return given

    def _add(self, name: str, text: str) -> None:
        self._repeated.setdefault(name, []).append(text)


class PeerOptions(ServiceOptions):
    """The options of a service whose replicas know each other."""

    def opt_peer(self, peer: str) -> None:
        """N=ENDPOINT: client endpoint of replica N, this one included. Once per replica."""
        self._add("peer", peer)


class ControllersOption(ServiceOptions):
    """The option of a service that follows controllers."""

    def opt_controller(self, endpoint: str) -> None:
        """Client endpoint of a controller. Once per controller."""
        self._add("controller", endpoint)


def parameters_of(kind: Kind) -> list[list[Any]]:
    """``optParameters``: every option that takes one argument, and ``--config``."""
    rows: list[list[Any]] = [
        [option.name, None, None, option.help] for option in options_of(kind) if not option.flag and not option.repeats
    ]
    return [["config", None, None, "TOML file with the same options; the command line wins."], *rows]


def flags_of(kind: Kind) -> list[list[Any]]:
    """``optFlags``: every option that takes no argument."""
    return [[option.name, None, option.help] for option in options_of(kind) if option.flag]


def _read_toml(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise BadSettings(f"--config {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not only TOMLDecodeError: bytes, huge integers, deep arrays
        raise BadSettings(f"--config {path}: {error}") from None

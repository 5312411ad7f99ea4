"""Endpoint strings: whether one can be used, where a list of them is split, which ones stay on this machine.

Endpoints are Twisted's (``tcp:host:port``, ``unix:path``, ``tls:…`` and whatever plugins add); nothing is assumed
about them beyond what is asked here. Nothing here opens a connection.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.endpoints import clientFromString, serverFromString

if TYPE_CHECKING:
    from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint

_COMMA = re.compile(r"(?<!\\),")
_COLON = re.compile(r"(?<!\\):")

BACKLOG: Final = 1024
"""Connections that wait to be accepted, unless the text says how many. Twisted's 50 are soon too few: whoever finds no
room is not refused, but tries again a second later."""


def split_list(text: str) -> list[str]:
    r"""The pieces between commas that no backslash precedes, unchanged; none of an empty text.

    >>> split_list(r"tcp:a:1,unix:/tmp/x\,y,tcp:b:2")
    ['tcp:a:1', 'unix:/tmp/x\\,y', 'tcp:b:2']
    """
    return _COMMA.split(text) if text else []


def check_endpoint(text: str) -> None:
    """Refuse a text that is no client endpoint.

    Raises:
        ValueError: with one line that says what is wrong with it.
    """
    client_endpoint(None, text)
    kind, positional, named = _words(text)
    if kind == "tcp":
        try:
            host = named["host"] if "host" in named else positional.pop(0)
            port = int(named["port"] if "port" in named else positional.pop(0))
        except (IndexError, ValueError):  # a host with an escaped "=", a port with any other escape
            host, port = "", 0
        if not host or not 0 < port < 1 << 16:
            raise ValueError(f"bad endpoint {text!r}: no host, or a port that is not in 1 … 65535")


def client_endpoint(reactor: Any, text: str) -> IStreamClientEndpoint:
    """The endpoint to dial.

    Raises:
        ValueError: as for ``check_endpoint``.
    """
    endpoint: IStreamClientEndpoint = _parsed(clientFromString, reactor, text)
    return endpoint


def server_endpoint(reactor: Any, text: str) -> IStreamServerEndpoint:
    """The endpoint to listen on.

    Raises:
        ValueError: as for ``check_endpoint``.
    """
    endpoint: IStreamServerEndpoint = _parsed(_server, reactor, text)
    return endpoint


def _server(reactor: Any, text: str) -> Any:
    kind, positional, named = _words(text)
    roomy = kind in ("tcp", "tcp6", "ssl", "unix") and len(positional) == 1 and "backlog" not in named
    return serverFromString(reactor, f"{text}:backlog={BACKLOG}" if roomy else text)


def loopback_only(text: str) -> bool:
    """Whether a server endpoint can be reached from this machine alone; in doubt, no.

    >>> loopback_only("tcp:7001:interface=127.0.0.1"), loopback_only("tcp:7001"), loopback_only("unix:/run/kv")
    (True, False, True)
    """
    kind, positional, named = _words(text)
    if kind == "unix":
        return True
    if kind not in ("tcp", "tcp6", "ssl"):
        return False
    fallback = positional[1] if kind != "ssl" and len(positional) > 1 else ""
    interface = named.get("interface", fallback).replace("\\:", ":")
    try:
        return interface == "localhost" or ipaddress.ip_address(interface).is_loopback
    except ValueError:
        return False


def _words(text: str) -> tuple[str, list[str], dict[str, str]]:
    """The kind of an endpoint, its positional and its named arguments, as they stand."""
    kind, *words = _COLON.split(text)
    return kind, [word for word in words if "=" not in word], dict(word.split("=", 1) for word in words if "=" in word)


def _parsed(parse: Callable[[Any, str], Any], reactor: Any, text: str) -> Any:
    # Twisted says "bad string" with whatever its parsers and plugins happen to raise.
    try:
        return parse(reactor, text)
    except Exception as error:
        raise ValueError(f"bad endpoint {text!r}: {error}") from None

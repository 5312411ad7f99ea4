"""What a server was told to be: the command line over a TOML file, checked once, frozen.

Decides every option of contract §1: its name, who takes it, what it may be and what stands when nobody gives it.
Whatever is wrong becomes one line (``BadSettings``) that says which option and why. It opens nothing, reads no file
and knows nothing of twistd: ``options`` asks it what there is and hands it what was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from twisted_kv.constants import (
    LOG_BYTES_MAX_DEFAULT,
    SHARDS_DEFAULT,
    SHARDS_MAX,
    VALUE_BYTES_CEILING,
    VALUE_BYTES_DEFAULT,
)
from twisted_kv.transport.endpoints import check_endpoint, loopback_only, server_endpoint, split_list

Kind = Literal["controller", "group", "node"]

NODE_LISTEN: Final = "tcp:7000:interface=127.0.0.1"
_REQUIRED: Final[Any] = object()


class BadSettings(ValueError):
    """One line: which option is wrong, and why. The operator can act."""


@dataclass(frozen=True)
class Settings:
    """What one process is told. A kv-node fills the places of its one controller and its one group itself.

    Attributes:
        kind: what it is: "controller", "group" or "node".
        data: its directory.
        listen: the Twisted server endpoint it binds.
        node: its place among its peers, from 1.
        peers: node → the Twisted client endpoint at which this process dials it; its own place included.
        controllers: client endpoints of the controllers; empty for a controller.
        gid: the group it belongs to; 0 for a controller.
        consensus: "raft".
        shards: the number of shards of a cluster that this controller founds.
        value_bytes_max: the limit of a value in a cluster that this controller founds.
        log_bytes_max: cut the log beyond this; -1 never.
        insecure: bind beyond loopback although nothing is encrypted.
        advertise: the client endpoint that a kv-node tells its clients; None: derived from ``listen``.
    """

    kind: Kind
    data: Path
    listen: str
    node: int = 1
    peers: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    controllers: tuple[str, ...] = ()
    gid: int = 0
    consensus: str = "raft"
    shards: int = SHARDS_DEFAULT
    value_bytes_max: int = VALUE_BYTES_DEFAULT
    log_bytes_max: int = LOG_BYTES_MAX_DEFAULT
    insecure: bool = False
    advertise: str | None = None


def settings_from(kind: Kind, given: Mapping[str, Any], config: Mapping[str, Any]) -> Settings:
    """The settings of one server.

    Args:
        kind: which of the three services.
        given: long option name → what the command line said: text, a list of texts, or True; absent: not said.
        config: the same from a TOML file, where numbers and booleans may be themselves.
    Raises:
        BadSettings: an unknown key, a missing one, or one that cannot be.
    """
    known = {option.name: option for option in options_of(kind)}
    for name in config:
        if name not in known:
            raise BadSettings(f"unknown key {name!r} in the configuration file of kv-{kind}")
    values: dict[str, Any] = {"kind": kind}
    for name, option in known.items():
        raw = given.get(name, config.get(name))
        if raw is None:
            if option.default is _REQUIRED:
                raise BadSettings(f"--{name} is missing")
            value = option.default
        else:
            try:
                value = option.read(raw)
            except ValueError as error:
                raise BadSettings(f"--{name}: {error}") from None
        values[option.attribute] = value
    settings = Settings(**values)
    _check_together(settings)
    return settings


def _check_together(settings: Settings) -> None:
    if settings.kind != "node" and settings.node not in settings.peers:
        raise BadSettings(
            f"--node {settings.node} is not among the peers: list it as --peer {settings.node}=ENDPOINT too"
        )
    if not settings.insecure and not loopback_only(settings.listen):
        raise BadSettings(
            f"--listen {settings.listen} can be reached from other machines, and nothing is encrypted or "
            "authenticated: bind to loopback (tcp:PORT:interface=127.0.0.1), or say --insecure"
        )


# ── the options, one row each ──────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Option:
    """One long option.

    Attributes:
        name: without its dashes; also the key in a TOML file.
        read: from what was given to its value; a ValueError says why not.
        help: one line for ``--help``.
        kinds: the services that take it.
        default: what stands when nobody gives it.
        repeats: may be given several times, an array in TOML.
        flag: takes no argument, a boolean in TOML.
        attribute: its place in Settings.
    """

    name: str
    read: Callable[[Any], Any]
    help: str
    kinds: tuple[Kind, ...] = ("controller", "group", "node")
    default: Any = _REQUIRED
    repeats: bool = False
    flag: bool = False
    attribute: str = ""

    def __post_init__(self) -> None:
        if not self.attribute:
            object.__setattr__(self, "attribute", self.name.replace("-", "_"))


def options_of(kind: Kind) -> tuple[Option, ...]:
    """The options that this service takes."""
    return tuple(option for option in _OPTIONS if kind in option.kinds)


def split_numbered(text: str) -> tuple[int, str]:
    """``N=REST``, split at the first ``=``.

    >>> split_numbered("3=tls:example.org:7001:bindAddress=10.0.0.1")
    (3, 'tls:example.org:7001:bindAddress=10.0.0.1')
    """
    number, equals, rest = text.partition("=")
    if not equals or not (number.isascii() and number.isdigit()) or int(number) < 1:
        raise ValueError(f"{text!r} is not NUMBER=ENDPOINT with a number from 1 on")
    return int(number), rest


def _text(raw: Any) -> str:
    if not isinstance(raw, str) or not raw:
        raise ValueError(f"{raw!r} is not a text")
    return raw


def _texts(raw: Any) -> list[str]:
    if not isinstance(raw, list):
        raise ValueError(f"{raw!r} is not an array of texts")
    return [_text(each) for each in raw]


def _number(least: int, most: int | None = None) -> Callable[[Any], int]:
    def read(raw: Any) -> int:
        if isinstance(raw, bool) or not isinstance(raw, str | int):
            raise ValueError(f"{raw!r} is not a number")
        try:
            number = int(raw)
        except ValueError:
            raise ValueError(f"{raw!r} is not a number") from None
        if number < least or (most is not None and number > most):
            raise ValueError(f"{number} is out of range, {least} … {most if most is not None else ''}".rstrip(" …"))
        return number

    return read


def _log_bytes(raw: Any) -> int:
    number = _number(-1)(raw)
    if number == 0:
        raise ValueError("0 is out of range: bytes, or -1 for never")
    return number


def _flag(raw: Any) -> bool:
    if not isinstance(raw, bool):
        raise ValueError(f"{raw!r} is neither true nor false")
    return raw


def _directory(raw: Any) -> Path:
    text = _text(raw)
    if "\0" in text:
        raise ValueError(f"{text!r} cannot be the name of a directory")
    return Path(text).absolute()


def _server_endpoint(raw: Any) -> str:
    server_endpoint(None, _text(raw))
    return _text(raw)


def _client_endpoint(raw: Any) -> str:
    check_endpoint(_text(raw))
    return _text(raw)


def _peers(raw: Any) -> Mapping[int, str]:
    peers: dict[int, str] = {}
    for text in _texts(raw):
        node, endpoint = split_numbered(text)
        if node in peers:
            raise ValueError(f"node {node} is listed twice")
        if endpoint in peers.values():
            raise ValueError(f"{endpoint} is listed twice")
        peers[node] = _client_endpoint(endpoint)
    return MappingProxyType(dict(sorted(peers.items())))


def _controllers(raw: Any) -> tuple[str, ...]:
    endpoints = tuple(dict.fromkeys(_client_endpoint(each) for text in _texts(raw) for each in split_list(text)))
    if not endpoints:
        raise ValueError("no endpoint in it")
    return endpoints


def _consensus(raw: Any) -> str:
    kind = _text(raw)
    if kind == "paxos":
        raise ValueError("paxos does not exist yet; this version knows raft")
    if kind != "raft":
        raise ValueError(f"{kind!r} is not known; this version knows raft")
    return kind


_CLUSTERED: Final[tuple[Kind, ...]] = ("controller", "group")
_FOUNDING: Final[tuple[Kind, ...]] = ("controller", "node")

_OPTIONS: Final = (
    Option("data", _directory, "Directory of this replica; made when missing, never shared."),
    Option("listen", _server_endpoint, "Server endpoint to bind.", _CLUSTERED),
    Option("listen", _server_endpoint, f"Server endpoint to bind (default {NODE_LISTEN}).", ("node",), NODE_LISTEN),
    Option("node", _number(1), "Place of this replica among its peers, from 1.", _CLUSTERED),
    Option(
        "peer",
        _peers,
        "N=ENDPOINT: client endpoint of replica N, this one included. Once per replica.",
        _CLUSTERED,
        repeats=True,
        attribute="peers",
    ),
    Option("gid", _number(1), "Number of the group, from 1.", ("group",)),
    Option(
        "controller",
        _controllers,
        "Client endpoint of a controller. Once per controller.",
        ("group",),
        repeats=True,
        attribute="controllers",
    ),
    Option(
        "advertise",
        _client_endpoint,
        "Client endpoint that clients are told (default: derived from --listen).",
        ("node",),
        None,
    ),
    Option(
        "shards",
        _number(1, SHARDS_MAX),
        f"Number of shards, fixed when the cluster begins (default {SHARDS_DEFAULT}).",
        _FOUNDING,
        SHARDS_DEFAULT,
    ),
    Option(
        "value-bytes-max",
        _number(1, VALUE_BYTES_CEILING),
        f"Limit of a value, set when the cluster begins (default {VALUE_BYTES_DEFAULT}, most {VALUE_BYTES_CEILING}).",
        _FOUNDING,
        VALUE_BYTES_DEFAULT,
    ),
    Option(
        "log-bytes-max",
        _log_bytes,
        f"Checkpoint and cut the log beyond this; -1 never (default {LOG_BYTES_MAX_DEFAULT}).",
        default=LOG_BYTES_MAX_DEFAULT,
    ),
    Option(
        "consensus",
        _consensus,
        "Kind of consensus, fixed when the directory is made: raft (default).",
        default="raft",
    ),
    Option(
        "insecure",
        _flag,
        "Bind beyond loopback although nothing is encrypted or authenticated.",
        default=False,
        flag=True,
    ),
)

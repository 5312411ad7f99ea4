from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from twisted_kv.constants import LOG_BYTES_MAX_DEFAULT, SHARDS_DEFAULT, VALUE_BYTES_DEFAULT
from twisted_kv.service.settings import (
    NODE_LISTEN,
    BadSettings,
    Kind,
    Settings,
    options_of,
    settings_from,
    split_numbered,
)

LOOPBACK = "tcp:7001:interface=127.0.0.1"
PEERS = ["1=tcp:127.0.0.1:7001", "2=tcp:127.0.0.1:7002", "3=tcp:127.0.0.1:7003"]


def controller(config: dict[str, Any] | None = None, **changes: Any) -> Settings:
    given: dict[str, Any] = {"node": "1", "data": "d", "listen": LOOPBACK, "peer": PEERS}
    given |= {name.replace("_", "-"): value for name, value in changes.items()}
    return settings_from(
        "controller", {name: value for name, value in given.items() if value is not None}, config or {}
    )


def group(**changes: Any) -> Settings:
    given: dict[str, Any] = {"gid": "100", "node": "1", "data": "d", "listen": LOOPBACK, "peer": PEERS}
    given |= {"controller": ["tcp:127.0.0.1:7001"]} | changes
    return settings_from("group", given, {})


def test_the_command_line_of_a_controller() -> None:
    """Contract §1."""
    settings = controller()
    assert (settings.kind, settings.node, settings.listen) == ("controller", 1, LOOPBACK)
    assert dict(settings.peers) == {1: "tcp:127.0.0.1:7001", 2: "tcp:127.0.0.1:7002", 3: "tcp:127.0.0.1:7003"}
    assert settings.data == Path("d").absolute()
    assert (settings.shards, settings.value_bytes_max) == (SHARDS_DEFAULT, VALUE_BYTES_DEFAULT)
    assert (settings.log_bytes_max, settings.consensus, settings.insecure) == (LOG_BYTES_MAX_DEFAULT, "raft", False)


def test_the_command_line_of_a_group() -> None:
    """Contract §1: lists are split at commas not preceded by a backslash; the pieces go to Twisted unchanged."""
    settings = group(controller=["tcp:127.0.0.1:7001", r"tcp:127.0.0.1:7002,unix:/a\,b"])
    assert settings.gid == 100
    assert settings.controllers == ("tcp:127.0.0.1:7001", "tcp:127.0.0.1:7002", r"unix:/a\,b")


def test_a_node_needs_only_a_directory() -> None:
    """Contract §1: kv-node is the embedded default."""
    settings = settings_from("node", {"data": "d"}, {})
    assert (settings.kind, settings.listen, settings.advertise, settings.node) == ("node", NODE_LISTEN, None, 1)


def test_numbers_are_split_off_at_the_first_equals_sign() -> None:
    """Contract §1: ``N=`` is split off at the first ``=``; endpoints are full of them."""
    endpoint = "tcp:host=127.0.0.1:port=7001:timeout=3"
    assert split_numbered(f"1={endpoint}") == (1, endpoint)
    assert controller(peer=[f"1={endpoint}"]).peers[1] == endpoint


@pytest.mark.parametrize(
    "text", ["tcp:127.0.0.1:7001", "=tcp:a:1", "0=tcp:a:1", "-1=tcp:a:1", "x=tcp:a:1", "²=tcp:a:1"]
)
def test_a_peer_without_a_number_is_refused(text: str) -> None:
    with pytest.raises(BadSettings, match="--peer"):
        controller(peer=[*PEERS, text])


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"node": "4"}, "--node 4 is not among the peers"),
        ({"node": "0"}, "--node"),
        ({"node": "one"}, "--node"),
        ({"node": None}, "--node is missing"),
        ({"data": None}, "--data is missing"),
        ({"data": ""}, "--data"),
        ({"peer": None}, "--peer is missing"),
        ({"peer": [*PEERS, "3=tcp:127.0.0.1:7004"]}, "node 3 is listed twice"),
        ({"peer": [*PEERS, "4=tcp:127.0.0.1:7003"]}, "listed twice"),
        ({"peer": ["1=nonsense"]}, "--peer"),
        ({"listen": "nonsense"}, "--listen"),
        ({"shards": "0"}, "--shards"),
        ({"shards": "4097"}, "--shards"),
        ({"value_bytes_max": "16777217"}, "--value-bytes-max"),
        ({"log_bytes_max": "0"}, "--log-bytes-max"),
        ({"log_bytes_max": "-2"}, "--log-bytes-max"),
        ({"consensus": "paxos"}, "paxos does not exist yet"),
        ({"consensus": "zab"}, "--consensus"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes: dict[str, Any], line: str) -> None:
    """Contract §1: stop the start with one clear line."""
    with pytest.raises(BadSettings, match=line) as caught:
        controller(**changes)
    assert "\n" not in str(caught.value)


def test_minus_one_never_cuts_the_log() -> None:
    assert controller(log_bytes_max="-1").log_bytes_max == -1


@pytest.mark.parametrize("listen", ["tcp:7001", "tcp:7001:interface=0.0.0.0", "tcp:7001:interface=192.0.2.1"])
def test_beyond_loopback_only_if_asked_for(listen: str) -> None:
    """Hazard S10: nothing is encrypted, so nothing beyond loopback without --insecure."""
    with pytest.raises(BadSettings, match="--insecure"):
        controller(listen=listen)
    assert controller(listen=listen, insecure=True).listen == listen


def test_everything_can_come_from_a_file() -> None:
    """Contract §1: keys are the long option names; repeatable ones are arrays of the same strings."""
    config = {
        "gid": 7,
        "node": 2,
        "data": "d",
        "listen": "tcp:7001",
        "peer": PEERS,
        "controller": ["tcp:127.0.0.1:1"],
        "log-bytes-max": -1,
        "insecure": True,
        "consensus": "raft",
    }
    settings = settings_from("group", {}, config)
    assert (settings.gid, settings.node, settings.log_bytes_max, settings.insecure) == (7, 2, -1, True)
    assert len(settings.peers) == 3


def test_the_command_line_wins() -> None:
    """Contract §1."""
    config = {"node": 2, "shards": 4, "peer": ["2=tcp:127.0.0.1:9"]}
    settings = controller(config, node="1")
    assert (settings.node, settings.shards, len(settings.peers)) == (1, 4, 3)


@pytest.mark.parametrize(
    "config",
    [
        {"sharks": 3},
        {"gid": 1},
        {"config": "other.toml"},
        {"shards": True},
        {"shards": 1.5},
        {"shards": [4]},
        {"insecure": "yes"},
        {"peer": "1=tcp:127.0.0.1:7001", "node": 1},
        {"peer": [1], "node": 1},
        {"data": 3},
    ],
)
def test_a_file_with_anything_else_is_refused(config: dict[str, Any]) -> None:
    """Contract §1: unknown keys stop the start."""
    given = {"node": "1", "data": "d", "listen": LOOPBACK, "peer": PEERS}
    with pytest.raises(BadSettings):
        settings_from("controller", {name: value for name, value in given.items() if name not in config}, config)


@pytest.mark.parametrize("kind", ["controller", "group", "node"])
def test_every_option_has_a_place(kind: Kind) -> None:
    names = [option.name for option in options_of(kind)]
    assert len(names) == len(set(names))
    assert {option.attribute for option in options_of(kind)} <= Settings.__dataclass_fields__.keys()
    assert all(option.help.endswith(".") for option in options_of(kind))

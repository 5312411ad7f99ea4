"""Endpoint strings."""

import pytest

from twisted_kv.transport.endpoints import check_endpoint, client_endpoint, loopback_only, server_endpoint, split_list


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("tcp:a:1", ["tcp:a:1"]),
        ("tcp:a:1,tcp:b:2", ["tcp:a:1", "tcp:b:2"]),
        (r"unix:/tmp/a\,b,tcp:b:2", [r"unix:/tmp/a\,b", "tcp:b:2"]),
        ("tcp:a:1,", ["tcp:a:1", ""]),
        (r"tcp:\:\:1:7001", [r"tcp:\:\:1:7001"]),
    ],
)
def test_a_list_is_split_at_commas_without_a_backslash_and_pieces_stay_unchanged(text, pieces):
    """Contract §1."""
    assert split_list(text) == pieces


@pytest.mark.parametrize(
    "text",
    [
        "tcp:127.0.0.1:7001",
        "tcp:host=db.example:port=1",
        "tcp:h:1:timeout=3",
        "tcp:h:65535",
        "unix:/tmp/x",
        r"tcp:\:\:1:7",
    ],
)
def test_good_client_endpoints_pass(text):
    check_endpoint(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "tcp",
        "tcp:",
        "tcp:h",
        "tcp:h:x",
        "tcp:h:0",
        "tcp:h:65536",
        "tcp::7001",
        "tcp:h:1:bogus=2",
        "foo:h:1",
    ],
)
def test_bad_client_endpoints_are_refused_with_one_line_that_names_them(text):
    """Contract §1: bad endpoints stop the start with one clear line."""
    with pytest.raises(ValueError) as raised:
        check_endpoint(text)
    assert repr(text) in str(raised.value) and "\n" not in str(raised.value)


def test_bad_endpoints_are_a_value_error_whatever_twisted_raises():
    """Twisted's parsers raise TypeError, NameError, ModuleNotFoundError and others."""
    for text in ("tcp:x", "tcp:1:bogus=3", "unix", "tls:/nowhere", "ssl:443:privateKey=/nowhere"):
        with pytest.raises(ValueError, match="bad endpoint"):
            server_endpoint(None, text)
    with pytest.raises(ValueError, match="bad endpoint"):
        client_endpoint(None, "tcp:h")


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("tcp:7001:interface=127.0.0.1", True),
        ("tcp:7001:127.0.0.1", True),
        ("tcp:port=7001:interface=localhost", True),
        (r"tcp6:7001:interface=\:\:1", True),
        ("ssl:7001:interface=127.0.0.1", True),
        ("unix:/run/kv.sock", True),
        ("tcp:7001", False),
        ("tcp:7001:interface=", False),
        ("tcp:7001:interface=0.0.0.0", False),
        ("tcp:7001:interface=10.0.0.5", False),
        ("tcp:7001:0.0.0.0", False),
        (r"tcp6:7001:interface=\:\:", False),
        ("ssl:7001:127.0.0.1", False),
        ("systemd:domain=INET:index=0", False),
        ("tls:/certs:7001", False),
        ("", False),
    ],
)
def test_which_listeners_stay_on_this_machine(text, loopback):
    """Contract §1: ``tcp:PORT`` means all interfaces; in doubt it is not loopback."""
    assert loopback_only(text) is loopback


@pytest.mark.parametrize("text", [r"tcp:a\=b:5", r"tcp:\=:5", r"tcp:host=h:port=\5", r"tcp:h:\5"])
def test_escapes_where_nobody_needs_them_are_refused_and_raise_nothing_else(text):
    """Found by fuzzing: an escaped "=" in a host was an IndexError, and a traceback for the operator."""
    with pytest.raises(ValueError, match="bad endpoint"):
        check_endpoint(text)


@pytest.mark.parametrize(
    ("text", "backlog"),
    [
        ("tcp:7001", 1024),
        ("tcp:7001:interface=127.0.0.1", 1024),
        (r"tcp6:7001:interface=\:\:1", 1024),
        ("tcp:7001:backlog=7", 7),
        ("tcp:7001:127.0.0.1:9", 9),
        ("unix:/run/kv", 1024),
    ],
)
def test_many_may_wait_to_be_accepted(text, backlog):
    """With 50 of them, the others of 64 Clerks that begin at once try again a second later."""
    assert server_endpoint(None, text)._backlog == backlog

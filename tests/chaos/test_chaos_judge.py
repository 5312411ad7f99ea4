"""The judge of real processes can say no, and forgives only what a fault explains.

The histories are judged by the simulator's checkers, which have tests of their own.
"""

import signal
from types import SimpleNamespace

import pytest
from chaos_judge import Record, judged
from chaos_servers import Life, Server

from twisted_kv.simulation.judges.history import History

STAMP = "2026-11-21T15:00:00+0000 "
LEADS = STAMP + "[x#info] Standing: leader in term {term}, leader {node}\n"
FOLLOWS = STAMP + "[x#info] Standing: follower in term {term}, leader {node}\n"
BROKEN = STAMP + "[x#critical] This stops\n\tTraceback (most recent call last):\n\tError: {error}\n"


@pytest.fixture
def fleet(tmp_path):
    """Three servers of a group that have not run yet."""
    servers = []
    for node in (1, 2, 3):
        control = tmp_path / "control" / f"100-{node}"
        control.mkdir(parents=True)
        server = Server(f"100-{node}", "", (), gid=100, node=node, control=control)
        server.log.write_text("")
        servers.append(server)
    return servers


def lives(server, *texts, **facts):
    """Let it live once for each text that it logs; the facts are of the last life."""
    for text in texts:
        server.lives.append(Life(begin=server.log.stat().st_size))
        with open(server.log, "a") as log:
            log.write(text)
    for name, value in facts.items():
        setattr(server.life, name, value)


def test_two_leaders_in_a_term(fleet):
    """Raft §5.2, also when one of them is only heard of, and rounds later."""
    record = Record(fleet)
    lives(fleet[0], LEADS.format(term=4, node=1))
    lives(fleet[1], FOLLOWS.format(term=4, node=1))
    lives(fleet[2], FOLLOWS.format(term=4, node=0))
    assert list(record.violations()) == []
    assert record.elections == 1
    lives(fleet[2], FOLLOWS.format(term=4, node=2))
    [line] = record.violations()
    assert line.startswith("one leader per term: 100-3 is follower in term 4")


def test_who_leads_names_itself(fleet):
    lives(fleet[0], LEADS.format(term=4, node=2))
    [line] = Record(fleet).violations()
    assert "100-1 is leader in term 4" in line


def test_another_group_has_terms_of_its_own(fleet):
    fleet[1].gid = 101
    lives(fleet[0], LEADS.format(term=4, node=1))
    lives(fleet[1], LEADS.format(term=4, node=2))
    assert list(Record(fleet).violations()) == []


def test_a_failure_is_forgiven_only_to_the_life_that_suffered_it(fleet):
    """What one life was done explains nothing that the next one logs."""
    text = BROKEN.format(error="disk I/O error")
    lives(fleet[0], text, faults={"eio"}, asked=None, status=1)
    record = Record(fleet)
    assert list(record.violations()) == []
    lives(fleet[0], text)
    [line] = record.violations()
    assert line.startswith("logged: 100-1: ") and "disk I/O error" in line
    assert list(record.violations()) == []


def test_a_fault_explains_its_own_failure_only(fleet):
    lives(fleet[0], BROKEN.format(error="KeyError"), faults={"eio", "full"})
    [line] = Record(fleet).violations()
    assert "KeyError" in line


@pytest.mark.parametrize(
    "asked, status, faults, forgiven",
    [
        (None, None, set(), True),
        (signal.SIGKILL, -signal.SIGKILL, set(), True),
        (signal.SIGTERM, -signal.SIGTERM, set(), True),
        # It was asked to stop, and killed while it did.
        (signal.SIGKILL, -signal.SIGTERM, set(), True),
        (None, 1, {"eio"}, True),
        (None, 1, {"full"}, True),
        (None, 1, {"slow"}, False),
        (None, 0, {"eio"}, False),
        (None, -signal.SIGSEGV, {"eio"}, False),
        (signal.SIGTERM, 1, set(), False),
        (signal.SIGTERM, 0, set(), False),
    ],
)
def test_how_a_server_may_end(fleet, asked, status, faults, forgiven):
    lives(fleet[0], "", asked=asked, status=status, faults=faults)
    assert [line.partition(":")[0] for line in Record(fleet).violations()] == ([] if forgiven else ["stopped"])


def test_a_lost_write_is_told():
    """An acknowledged append that is not there in the end."""
    history, clock = History(), SimpleNamespace(seconds=lambda: 0.0)
    call = history.begin("c", "append", "k", "<c.1>", clock.seconds())
    history.succeeded(call, None)
    assert list(judged(history, {"k": "<c.1>"})) == []
    assert list(judged(history, {"k": ""}))

"""The lab's part 2B: agreement on a log (scenarios §2.1, 2B)."""

import pytest
from raft_lab import Lab, number


def test_2b_basic_agree():
    """Nothing is applied before it is submitted; indices are exactly 1, 2, 3; all three servers apply them.

    Fails if a follower takes no commit from a heartbeat.
    """
    lab = Lab(3)
    for index in (1, 2, 3):
        assert lab.n_committed(index) == 0
        assert lab.one(number(index * 100), 3, retry=False) == index


def test_2b_rpc_bytes():
    """Ten commands of 5,000 bytes cost at most 200,000 bytes: each peer gets each about once; indices 2 … 11.

    Fails if ``Progress.sent`` leaves ``next`` where it was.
    """
    lab = Lab(3)
    lab.one(b"99", 3, retry=False)
    before, sent = lab.bytes_sent, 0
    for index in range(2, 12):
        command = lab.random_command(5000)
        assert lab.one(command, 3, retry=False) == index
        sent += len(command)
    assert lab.bytes_sent - before <= 3 * sent + 50_000


def test_2b_follower_failure():
    """Two of three agree; alone, the leader accepts index 4 and it is applied nowhere.

    Fails if ``advance_commit`` takes the leader's own saved index for a quorum's.
    """
    lab = Lab(3)
    lab.one(b"101", 3, retry=False)
    leader = lab.check_one_leader()
    lab.disconnect(lab.after_of(leader, 1))
    lab.one(b"102", 2, retry=False)
    lab.run(1000)
    lab.one(b"103", 2, retry=False)
    leader = lab.check_one_leader()
    lab.disconnect(lab.after_of(leader, 1), lab.after_of(leader, 2))
    index, _ = lab.submit(leader, b"104")
    assert index == 4
    lab.run(2000)
    assert lab.n_committed(4) == 0


def test_2b_leader_failure():
    """A new leader goes on without the first; with two leaders cut off nothing is applied anywhere.

    Fails if ``follow`` keeps the vote of the term before.
    """
    lab = Lab(3)
    lab.one(b"101", 3, retry=False)
    lab.disconnect(lab.check_one_leader())
    lab.one(b"102", 2, retry=False)
    lab.run(1000)
    lab.one(b"103", 2, retry=False)
    lab.disconnect(lab.check_one_leader())
    for node in lab.hosts:
        lab.submit(node, b"104")
    lab.run(2000)
    assert lab.n_committed(4) == 0


def test_2b_fail_agree():
    """Agreement goes on without one follower, and includes it again once it is back.

    Fails if ``take_refusal`` does nothing.
    """
    lab = Lab(3)
    lab.one(b"101", 3, retry=False)
    cut = lab.after_of(lab.check_one_leader(), 1)
    lab.disconnect(cut)
    lab.one(b"102", 2, retry=False)
    lab.one(b"103", 2, retry=False)
    lab.run(1000)
    lab.one(b"104", 2, retry=False)
    lab.one(b"105", 2, retry=False)
    lab.connect(cut)
    lab.one(b"106", 3, retry=True)
    lab.run(1000)
    lab.one(b"107", 3, retry=True)


def test_2b_fail_no_agree():
    """Without a majority index 2 is never applied; afterwards the next command gets 2 or 3, and all five agree.

    Fails if ``advance_commit`` takes the highest index that anybody has for a quorum's.
    """
    lab = Lab(5)
    lab.one(b"10", 5, retry=False)
    leader = lab.check_one_leader()
    cut = [lab.after_of(leader, places) for places in (1, 2, 3)]
    lab.disconnect(*cut)
    index, _ = lab.submit(leader, b"20")
    assert index == 2
    lab.run(2000)
    assert lab.n_committed(2) == 0
    lab.connect(*cut)
    index, _ = lab.submit(lab.check_one_leader(), b"30")
    assert index in (2, 3)
    lab.one(b"1000", 5, retry=True)


def test_2b_concurrent_starts():
    """Five commands submitted at one moment to one leader: all applied by all, each at the index it was told.

    Fails if ``propose`` tells position 0 to every command.
    """
    lab = Lab(3)
    for _ in range(5):
        leader = lab.check_one_leader()
        _, term = lab.submit(leader, b"1")
        told = {}
        for place in range(5):
            command = number(100 + place)
            accepted = lab.submit(leader, command)
            if accepted and accepted[1] == term:
                told[accepted[0]] = command
        assert len(told) == 5
        seen = {index: lab.wait(index, 3, term) for index in told}
        if None not in seen.values():
            assert seen == told
            return
        lab.run(3000)
    pytest.fail("the term moved five times")


def test_2b_rejoin():
    """Entries of a cut-off leader that were never committed give way to those of its successors.

    Fails if a follower asks whether it holds the entry before, and not of which term it is.
    """
    lab = Lab(3)
    lab.one(b"101", 3, retry=True)
    first = lab.check_one_leader()
    lab.disconnect(first)
    for command in (b"102", b"103", b"104"):
        lab.submit(first, command)
    lab.one(b"103", 2, retry=True)
    second = lab.check_one_leader()
    lab.disconnect(second)
    lab.connect(first)
    lab.one(b"104", 2, retry=True)
    lab.connect(second)
    lab.one(b"105", 3, retry=True)
    assert lab.order == [b"101", b"103", b"104", b"105"]


def test_2b_backup():
    """Logs that disagree over 50 entries and more, twice, are brought together within the limits of one() and
    by few refusals: logs are compared by terms, not by entries.

    Fails if ``take_refusal`` goes back by one entry.
    """
    lab = Lab(5)
    lab.one(lab.random_command(), 5, retry=True)
    old = lab.check_one_leader()
    kept = lab.after_of(old, 1)
    three = [lab.after_of(old, places) for places in (2, 3, 4)]
    lab.disconnect(*three)
    for _ in range(50):
        lab.submit(old, lab.random_command())
        lab.run(2)
    lab.run(500)
    lab.disconnect(old, kept)
    lab.connect(*three)
    for _ in range(50):
        lab.one(lab.random_command(), 3, retry=True)
    leader = lab.check_one_leader()
    odd = next(node for node in three if node != leader)
    lab.disconnect(odd)
    for _ in range(50):
        lab.submit(leader, lab.random_command())
        lab.run(2)
    lab.run(500)
    lab.disconnect(*lab.hosts)
    lab.connect(old, kept, odd)
    for _ in range(50):
        lab.one(lab.random_command(), 3, retry=True)
    lab.connect(*lab.hosts)
    lab.one(lab.random_command(), 5, retry=True)
    assert lab.kinds["AppendRefused"] <= 25, "logs were compared entry by entry"


def test_2b_count():
    """An election costs 1 to 30 requests, ten agreements at most 42, an idle second at most 30: the labs
    allow 60, and ten heartbeats to each of two peers make 20.

    Fails if ``beat`` does not begin to count anew: heartbeats at every tick.
    """
    lab = Lab(3)
    leader = lab.check_one_leader()
    assert 1 <= lab.requests <= 30
    for _ in range(5):
        leader = lab.check_one_leader()
        before = lab.requests
        first, term = lab.submit(leader, b"1")
        commands = [lab.random_command() for _ in range(12)]
        indices = [lab.submit(leader, command) for command in commands]
        assert [index for index, _ in indices] == [first + 1 + place for place in range(12)]
        seen = [lab.wait(first + 1 + place, 3, term) for place in range(10)]
        if None not in seen:
            assert seen == commands[:10]
            assert lab.requests - before <= (10 + 1 + 3) * 3
            break
    else:
        pytest.fail("the term moved five times")
    idle = lab.requests
    lab.run(1000)
    assert lab.requests - idle <= 30

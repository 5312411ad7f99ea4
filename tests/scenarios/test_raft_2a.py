"""The lab's part 2A: elections (scenarios §2.1, 2A)."""

from raft_lab import Lab


def test_2a_initial_election():
    """All terms equal and at least 1 soon after a leader appears; equal again 2 s later; the leader still leads.

    Fails if a heartbeat does not restart the follower's timer.
    """
    lab = Lab(3)
    first = lab.check_one_leader()
    lab.run(50)
    term = lab.check_terms()
    assert term >= 1
    lab.run(2000)
    assert lab.check_terms() == term, "a healthy group changed its term"
    assert lab.check_one_leader() == first


def test_2a_re_election():
    """A leader cut off is replaced; coming back it does not disturb; two of three cut off: after 2 s nobody leads,
    not even the leader that was cut off; one back: a leader; the last back: one leader still.

    Fails if ``check_quorum`` never steps down.
    """
    lab = Lab(3)
    first = lab.check_one_leader()
    lab.disconnect(first)
    second = lab.check_one_leader()
    assert second != first
    lab.connect(first)
    assert lab.check_one_leader() == second, "a returning node deposed a healthy leader (hazard 8)"
    other = lab.after_of(second, 1)
    lab.disconnect(second, other)
    lab.run(2000)
    lab.check_no_leader()
    assert not any(host.leads for host in lab.hosts.values()), "a leader without a majority did not step down"
    lab.connect(other)
    lab.check_one_leader()
    lab.connect(second)
    lab.check_one_leader()


def test_2a_many_elections():
    """Seven servers, nine rounds: with up to three random ones cut off there is always exactly one leader.

    Fails if ``add_vote`` leads on the first vote, quorum or not.
    """
    lab = Lab(7)
    lab.check_one_leader()
    for _ in range(9):
        cut = [lab.dice.randrange(7) + 1 for _ in range(3)]
        lab.disconnect(*cut)
        lab.check_one_leader()
        lab.connect(*cut)
    lab.check_one_leader()

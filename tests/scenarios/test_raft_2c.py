"""The lab's part 2C: crashes and persistence (scenarios §2.1, 2C). All with the full number of rounds."""

from collections.abc import Iterator

import pytest
from raft_lab import LONG_REORDERING, RELIABLE, UNRELIABLE, Lab, number


def test_2c_persist1():
    """Agreement after all restart, after the leader restarts, and with one cut off while another restarts.

    Fails if a node that starts begins in term 0.
    """
    lab = Lab(3)
    lab.one(b"11", 3, retry=True)
    lab.boot(*lab.hosts)
    lab.one(b"12", 3, retry=True)
    lab.boot(lab.check_one_leader())
    lab.one(b"13", 3, retry=True)
    leader = lab.check_one_leader()
    lab.disconnect(leader)
    lab.one(b"14", 2, retry=True)
    lab.boot(leader)
    lab.wait(4, 3)
    follower = lab.after_of(lab.check_one_leader(), 1)
    lab.disconnect(follower)
    lab.one(b"15", 2, retry=True)
    lab.boot(follower)
    lab.one(b"16", 3, retry=True)


def test_2c_persist2():
    """Five rounds in which overlapping majorities crash and come back; all agree each time.

    Fails if ``is_up_to_date`` is true of every log.
    """
    lab = Lab(5)
    command = 10
    for _ in range(5):
        lab.one(number(command), 5, retry=True)
        leader = lab.check_one_leader()
        one, two, three, four = (lab.after_of(leader, places) for places in (1, 2, 3, 4))
        lab.disconnect(one, two)
        lab.one(number(command + 1), 3, retry=True)
        lab.disconnect(leader, three, four)
        lab.boot(one, two)
        lab.run(1000)
        lab.boot(three)
        lab.one(number(command + 2), 3, retry=True)
        lab.connect(leader, four)
        command += 3
    lab.one(b"1000", 5, retry=True)


def test_2c_persist3():
    """A leader and a follower crash while the third is cut off; no agreed command is lost.

    Fails if ``is_up_to_date`` compares terms and no indices.
    """
    lab = Lab(3)
    lab.one(b"101", 3, retry=True)
    leader = lab.check_one_leader()
    one, two = lab.after_of(leader, 1), lab.after_of(leader, 2)
    lab.disconnect(two)
    lab.one(b"102", 2, retry=True)
    lab.kill(leader, one)
    lab.connect(two)
    lab.boot(leader)
    lab.one(b"103", 2, retry=True)
    lab.boot(one)
    lab.one(b"104", 3, retry=True)
    assert lab.order == [b"101", b"102", b"103", b"104"]


def test_2c_figure8():
    """Figure 8 of the paper, 1,000 rounds: whoever accepts a command crashes soon; nothing committed changes
    (checked at each apply), and in the end all five agree.

    Fails if ``answer_vote`` does not ask who has this term's vote already.
    """
    lab = Lab(5)
    lab.one(lab.random_command(), 1, retry=True)
    live = 5
    for _ in range(1000):
        accepted = [node for node in lab.hosts if lab.submit(node, lab.random_command())]
        lab.run(lab.dice.randrange(500) if lab.dice.random() < 0.1 else lab.dice.randrange(13))
        if accepted:
            lab.kill(accepted[-1])
            live -= 1
        if live < 3:
            node = lab.dice.randrange(5) + 1
            if not lab.hosts[node].up:
                lab.boot(node)
                live += 1
    lab.boot(*[node for node, host in lab.hosts.items() if not host.up])
    lab.one(lab.random_command(), 5, retry=True)
    assert len(lab.order) >= 20, "too few commits for the run to prove anything"


def test_2c_unreliable_agree():
    """49 rounds of five commands over a network that loses 10 % of all messages; all agree at the end.

    Fails if ``take_append`` cuts the log at an entry that is equal.
    """
    lab = Lab(5, weather=UNRELIABLE)
    for round in range(1, 50):
        for place in range(4):
            lab.spawn(persistent(lab, number(100 * round + place)))
        lab.one(number(round), 1, retry=True)
    lab.weather = RELIABLE
    lab.run(1000)
    lab.one(b"100", 5, retry=True)
    assert {number(100 * round + place) for round in range(1, 50) for place in range(4)} <= set(lab.order)


def persistent(lab: Lab, command: bytes) -> Iterator[int]:
    """A client that submits until the command is applied somewhere."""
    while command not in lab.order:
        if any(lab.submit(node, command) for node in lab.hosts):
            yield 500
        yield 50


def test_2c_figure8_unreliable():
    """1,000 rounds of Figure 8 by cutting leaders off, with loss, and from round 200 on with replies that overtake
    each other by seconds; nothing committed changes, and all five agree in the end.

    Fails if a heartbeat carries the leader's commit, however little the receiver is known to match.
    """
    lab = Lab(5, weather=UNRELIABLE)
    lab.one(number(10_001), 1, retry=True)
    for round in range(1000):
        if round == 200:
            lab.weather = LONG_REORDERING
        leader = None
        for node in lab.hosts:
            if lab.submit(node, number(round)) and node in lab.connected:
                leader = node
        lab.run(lab.dice.randrange(500) if lab.dice.random() < 0.1 else lab.dice.randrange(13))
        if leader is not None and lab.dice.random() < 0.5:
            lab.disconnect(leader)
        if len(lab.connected) < 3:
            lab.connect(lab.dice.randrange(5) + 1)
    lab.connect(*lab.hosts)
    lab.one(number(10_002), 5, retry=True)
    assert max(map(lab.term_of, lab.hosts)) >= 10, "too few leaders for the run to prove anything"


@pytest.mark.parametrize("weather", [RELIABLE, UNRELIABLE], ids=["reliable", "unreliable"])
def test_2c_churn(weather):
    """Three clients write while servers are cut off, crashed and restarted for 20 rounds of 0.7 s. Afterwards every
    index is applied by all five, and every value that a client saw committed is in the log.

    Fails if ``take_append`` keeps entries that contradict the leader's.
    """
    lab = Lab(5, weather=weather)
    stop: list[bool] = []
    seen: list[list[bytes]] = [[], [], []]
    for me in range(3):
        lab.spawn(churning_client(lab, me, seen[me], stop))
    for _ in range(20):
        if lab.dice.random() < 0.2:
            lab.disconnect(lab.dice.randrange(5) + 1)
        if lab.dice.random() < 0.5:
            node = lab.dice.randrange(5) + 1
            if not lab.hosts[node].up:
                lab.boot(node)
            lab.connect(node)
        if lab.dice.random() < 0.2:
            lab.kill(lab.dice.randrange(5) + 1)
        lab.run(700)
    lab.run(1000)
    lab.weather = RELIABLE
    for node, host in lab.hosts.items():
        if not host.up:
            lab.boot(node)
        lab.connect(node)
    stop.append(True)
    lab.run(1000)
    last = lab.one(lab.random_command(), 5, retry=True)
    assert all(lab.n_committed(index) == 5 for index in range(1, last + 1))
    committed = [value for values in seen for value in values]
    assert len(committed) >= 20, "the clients saw too little"
    assert set(committed) <= set(lab.order)


def churning_client(lab: Lab, me: int, seen: list[bytes], stop: list[bool]) -> Iterator[int]:
    while not stop:
        command = lab.random_command()
        accepted = None
        for node in lab.hosts:
            accepted = lab.submit(node, command) or accepted
        if accepted is None:
            yield 79 + me * 17
            continue
        for pause in (10, 20, 50, 100, 200):
            if lab.n_committed(accepted[0]):
                if lab.holders(accepted[0], command):
                    seen.append(command)
                break
            yield pause

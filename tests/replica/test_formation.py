"""A group forms once, on one set of directories; a wiped one becomes a copy (decision 0003, hazard 9)."""

import pytest
from replica_stage import InlineDisk, SeenNetwork
from twisted.internet.task import Clock

from twisted_kv.errors import StartRefused
from twisted_kv.interfaces import SaveRefused
from twisted_kv.replica.formation import Formation, group_identity
from twisted_kv.transport.wire import HELLO, PEER_HELLO, Hello

PEERS = {1: "e1", 2: "e2", 3: "e3"}


class Facts(dict):
    """The identity table of a directory."""

    def bind(self, facts):
        self.update(facts)


class Town:
    def __init__(self):
        self.clock = Clock()
        self.network = SeenNetwork()
        self.copies = []
        self.strangers = []
        self.formed = {}
        self.formations = {}

    def start(self, node, incarnation, facts=None, up=True, **hello):
        formation = Formation(
            Hello("group", 7, node, incarnation, "raft", **hello),
            PEERS,
            facts if facts is not None else Facts(),
            InlineDisk(),
            self.network,
            self.clock,
            lambda copy, is_another: self.copies.append((node, copy, is_another)),
            lambda refusal: self.strangers.append(node),
        )
        self.formations[node] = formation
        self.network.doors[PEERS[node]] = {PEER_HELLO: formation.answer}
        formation.start().addCallbacks(lambda voters: self.formed.__setitem__(node, voters), lambda _: None)
        return formation

    def down(self, node):
        self.formations.pop(node).stop()
        self.network.doors.pop(PEERS[node])

    def later(self, seconds=2.0):
        self.clock.pump([0.05] * int(seconds / 0.05))


@pytest.fixture
def town():
    return Town()


def test_forms_when_all_are_there(town):
    for node in PEERS:
        town.start(node, f"i{node}")
    town.later()
    assert town.formed == {node: {1: "i1", 2: "i2", 3: "i3"} for node in PEERS}
    assert not any(formation.is_copy for formation in town.formations.values())


def test_a_full_disk_refuses_to_form_with_a_line(town):
    """Hazard 28: what a start on a full disk tells the operator, not how it found out."""

    class Full(Facts):
        def bind(self, facts):
            raise SaveRefused("log.sqlite3: database or disk is full")

    refused = []
    formation = Formation(
        Hello("group", 7, 1, "i1", "raft"),
        {1: "e1"},
        Full(),
        InlineDisk(),
        town.network,
        town.clock,
        town.copies.append,
        town.strangers.append,
    )
    formation.start().addErrback(refused.append)
    formation.stop()
    (failure,) = refused
    failure.trap(StartRefused)
    assert "make room" in failure.getErrorMessage()


def test_does_not_form_while_one_is_missing(town):
    town.start(1, "i1")
    town.start(2, "i2")
    town.later(10)
    assert town.formed == {}


def test_single_member_forms_alone():
    facts = Facts()
    formed = []
    formation = Formation(
        Hello("controller", 0, 1, "i1", "raft"),
        {1: "e1"},
        facts,
        InlineDisk(),
        SeenNetwork(),
        Clock(),
        formed.append,
        formed.append,
    )
    formation.start().addCallback(formed.append)
    assert formed == [{1: "i1"}]
    assert facts["formed"] == "yes"


def test_acceptance_is_durable_before_it_is_told(town):
    facts = Facts()
    town.start(1, "i1", facts)
    town.start(2, "i2")
    town.start(3, "i3")
    town.later()
    assert facts["voters"] == "1=i1,2=i2,3=i3"
    assert facts["formed"] == "yes"


def test_hazard_09_wiped_member_comes_back_as_a_copy(town):
    for node in PEERS:
        town.start(node, f"i{node}")
    town.later()
    town.down(2)
    wiped = town.start(2, "new")
    town.later()
    assert wiped.is_copy
    assert {(copy, is_another) for _, copy, is_another in town.copies} == {(2, False)}


def test_hazard_09_a_copy_that_lost_its_disk_once_more_is_told_apart(town):
    for node in PEERS:
        town.start(node, f"i{node}")
    town.later()
    for incarnation in ("new", "newer"):
        town.down(2)
        town.copies.clear()
        town.start(2, incarnation)
        town.later()
    told = [is_another for who, _, is_another in town.copies if who == 1]
    assert told.count(True) == 1 and len(told) > 1, "once, however often it asks"


def test_hazard_37_a_directory_of_another_group_finds_out(town):
    """Contract §1: it does not run beside the others as if it were theirs; they go on."""
    for node in PEERS:
        town.start(node, f"i{node}")
    town.later()
    town.down(2)
    town.start(2, "j2", voters=((1, "j1"), (2, "j2"), (3, "j3")), formed=True)
    town.later()
    assert set(town.strangers) == {2}


def test_wiped_during_formation_never_makes_a_second_set(town):
    """A formed with the old 2; the new 2 and 3 must not form another group without what 1 and 2 knew."""
    town.start(1, "i1")
    town.start(2, "i2")
    town.start(3, "i3")
    town.later(0.1)
    town.down(2)
    town.start(2, "new")
    town.later(20)
    sets = {tuple(sorted(voters.items())) for voters in town.formed.values()}
    assert sets <= {((1, "i1"), (2, "i2"), (3, "i3"))}


def test_accepted_once_is_never_accepted_otherwise(town):
    """A member that accepted a set keeps it when a peer comes back with another incarnation."""
    voters = ((1, "i1"), (2, "old"), (3, "i3"))
    town.start(1, "i1", voters=voters)
    town.start(2, "new")
    town.start(3, "i3")
    town.later(10)
    assert town.formed == {}
    assert town.formations[1].hello.voters == voters


def test_other_group_or_consensus_is_not_listened_to(town):
    town.start(1, "i1")
    town.start(2, "i2")
    stranger = Formation(
        Hello("group", 7, 3, "i3", "paxos"),
        PEERS,
        Facts(),
        InlineDisk(),
        town.network,
        town.clock,
        lambda _: None,
        lambda _: None,
    )
    town.network.doors["e3"] = {PEER_HELLO: stranger.answer}
    stranger.start().addErrback(lambda _: None)
    town.later(3)
    assert town.formed == {}


def test_other_peers_than_the_directory_knows_are_refused(town):
    with pytest.raises(StartRefused, match="nodes 1, 2"):
        town.start(1, "i1", voters=((1, "i1"), (2, "i2")), formed=True)


def test_identity_is_the_same_on_all_members():
    assert group_identity({1: "a", 2: "b"}) == group_identity({2: "b", 1: "a"})


def test_who_is_the_stranger_is_not_for_strangers_to_say(town):
    """Found by fuzzing: two hellos from anybody, in the names of two peers, stopped a member of a formed group."""
    voters = ((1, "i1"), (2, "i2"), (3, "i3"))
    for node in PEERS:
        town.start(node, f"i{node}", voters=voters, formed=True)
    town.later()
    for _ in range(3):
        for node in (2, 3):
            lie = Hello("group", 7, node, "x", "raft", ((1, "x"), (2, "x"), (3, "x")), True)
            town.formations[1].answer(HELLO.encode(lie))
        town.later(3)
    assert town.strangers == []


def test_a_stranger_is_noticed_when_its_peers_return_after_it(town):
    """It has asked them once when it started, and nobody was there; their own question makes it ask again."""
    town.start(2, "j2", voters=((1, "j1"), (2, "j2"), (3, "j3")), formed=True)
    town.later()
    for node in (1, 3):
        town.start(node, f"i{node}", voters=((1, "i1"), (2, "i2"), (3, "i3")), formed=True)
    town.later(5)
    assert set(town.strangers) == {2}

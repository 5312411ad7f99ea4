"""A few hundred short histories under bad weather: Figure 3 after every event, then calm, then progress.

Each seed draws its own knobs (a swarm): group size, loss, duplication, slow disks, partitions of every pattern,
crashes, wiped disks, short logs. The safety phase checks in World; the liveness phase here (hazard 6 was once seen
only there).
"""

from random import Random

import pytest
from raft_world import Weather, World

from twisted_kv.consensus.raft.node import RaftSettings
from twisted_kv.consensus.types import DiskFull, PeerUnreachable, SaveResumed, SaveStalled, TransferLeadership


def drawn_world(seed: int) -> World:
    random = Random(seed)
    weather = Weather(
        hop=(1, random.choice([5, 30, 120])),
        save=(1, random.choice([5, 40, 200])),
        loss=random.choice([0, 0.02, 0.1, 0.3]),
        duplicate=random.choice([0, 0.1, 0.3]),
        held_back=random.choice([0, 0, 0.2]),
        fetch=(5, random.choice([40, 400])),
    )
    settings = RaftSettings(
        window_messages=random.choice([1, 4, 64]),
        append_bytes_max=random.choice([60, 1 << 20]),
        entry_bytes_max=random.choice([10, 1 << 20]),
        committed_bytes_max=random.choice([50, 4 << 20]),
    )
    world = World(seed, random.choice([1, 3, 3, 5]), weather, random.choice([None, 5, 20]), settings)
    world.crash_in_install = random.choice([0, 0.3])
    return world


def trouble(world: World, random: Random) -> None:
    """One random fault, or the end of some."""
    hosts = list(world.hosts.values())
    host = world.leader if world.leader is not None and random.random() < 0.4 else random.choice(hosts)
    dice = random.random()
    if dice < 0.25:
        if host.up:
            world.crash(host)
        else:
            world.start(host)
    elif dice < 0.35:
        world.isolate(host.node)
    elif dice < 0.45:
        world.cuts.add((host.node, random.choice(hosts).node))
    elif dice < 0.65:
        world.heal()
    elif dice < 0.75:
        for other in hosts:
            if not other.up:
                world.start(other)
    elif host.up:
        to = random.choice(hosts).node
        events = [TransferLeadership(to), PeerUnreachable(to), SaveStalled(), DiskFull(), SaveResumed(), SaveResumed()]
        world.step(host, random.choice(events))


def calm(world: World) -> None:
    world.heal()
    world.weather = Weather()
    world.crash_in_install = 0
    for host in world.hosts.values():
        if not host.up:
            world.start(host)
        world.step(host, SaveResumed())


@pytest.mark.parametrize("block", range(15))
def test_random_histories_keep_every_invariant_and_recover(block):
    """Hazards 1 to 16, 19, 21, 22, 25 under random faults; then one write reaches every host."""
    for seed in range(block * 20, block * 20 + 20):
        world, random = drawn_world(seed), Random(-seed - 1)
        for round in range(90):
            world.run(random.randrange(1, 120))
            for host in list(world.hosts.values()):
                if random.random() < 0.5:
                    world.propose(host, b"%d.%d.%d" % (seed, round, host.node))
                if random.random() < 0.3:
                    world.read(host)
            if random.random() < 0.3:
                trouble(world, random)
            if len(world.voters) > 1 and round == 45 and seed % 4 == 0:
                world.wipe(world.random.choice(sorted(world.voters)))
        calm(world)
        settled = world.run_until(lambda world=world: world.leader is not None and agrees(world), 6000, 100)
        assert settled, f"seed {seed}: {[host.core.status() for host in world.hosts.values()]}"
        terms = {host.core.status().term for host in world.hosts.values()}
        world.run(2000)
        assert {host.core.status().term for host in world.hosts.values()} == terms, f"seed {seed}: no stable leader"


def agrees(world: World) -> bool:
    """A fresh command was applied by every host, copies included."""
    mark = b"calm %d" % world.now
    if world.propose(world.leader, mark) is None or not world.read(world.leader):
        return False
    return world.run_until(lambda: all(mark in host.applied for host in world.hosts.values()), 1500, 20)


def test_same_seed_same_history():
    """The simulator is worth nothing if a failure cannot be replayed."""
    histories = []
    for _ in range(2):
        world, sent = drawn_world(7), []
        world.on_send = sent.append
        for place in range(40):
            world.run(50)
            if world.leader:
                world.propose(world.leader, b"%d" % place)
        histories.append(sent)
    assert histories[0] == histories[1] and len(histories[0]) > 100

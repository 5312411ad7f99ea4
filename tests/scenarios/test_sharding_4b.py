"""The lab's part 4B: sharding (scenarios §2.4). Three controllers and three groups of three servers, all running from
the start and not joined; ten shards; a key of each shard by our own rule.

The controllers are never faulted but share the weather of the network. ``maxraftstate`` is ``log_bytes_max`` here.
"""

from __future__ import annotations

from scenario_cluster import (
    GIDS,
    KEYS,
    NODES,
    PATIENT,
    SHARDS,
    Appender,
    Stage,
    answered,
    check_all,
    check_and_append_all,
    key_in,
    on_stage,
    put_all,
    stop_and_check,
    text,
    together,
)

from twisted_kv.machines.configuration import shard_of
from twisted_kv.simulation.judges.history import Call, History
from twisted_kv.simulation.judges.linearizability import findings

REPLICAS = [(gid, node) for gid in GIDS for node in NODES]


def test_each_key_has_a_shard_of_its_own() -> None:
    """What every scenario here builds on (contract §3)."""
    assert [shard_of(key, SHARDS) for key in KEYS] == list(range(SHARDS))


@on_stage()
async def test_static_shards(stage: Stage) -> None:
    """Scenario §2.4 StaticShards: with one of two groups stopped exactly the five keys of the other one answer, each
    rightly; all ten after it has come back; no snapshot was written.

    Fails if a join moves no shards, or if a restarted replica does not replay its log.
    """
    await stage.join(100)
    await stage.join(101)
    clerk = stage.clerk()
    values = random_values(stage, KEYS)
    await put_all(clerk, values)
    await check_all(clerk, values)
    await stage.stop_group(101)
    check_logs(stage)
    answers = await answered(stage, stage, KEYS)
    shards = (await stage.query()).shards
    assert sorted(answers) == sorted(KEYS[shard] for shard in range(SHARDS) if shards[shard] == 100)
    assert len(answers) == SHARDS // 2
    assert all(values[key] == value for key, value in answers.items())
    await stage.start_group(101)
    await check_all(clerk, values)


@on_stage()
async def test_rejection_5a(stage: Stage) -> None:
    """Scenario §2.4 Rejection5A: by the word of other controllers, which know of group 100 alone, only the five keys
    that it owns are answered, rightly; an empty answer would mean that it served what it does not own.

    Fails if ``_read`` of the group machine does not look whether the shard is served here.
    """
    await stage.join(100)
    await stage.join(101)
    clerk = stage.clerk()
    values = random_values(stage, KEYS)
    await put_all(clerk, values)
    await check_all(clerk, values)
    second = stage.second_controllers()
    assert set((await second.admin.join({100: stage.endpoints(100)}, timeout=PATIENT)).shards) == {100}
    answers = await answered(stage, second, KEYS)
    assert len(answers) == SHARDS // 2
    assert all(values[key] == value for key, value in answers.items())


@on_stage()
async def test_join_leave(stage: Stage) -> None:
    """Scenario §2.4 JoinLeave: every key is right after a join and after the giver left; with the giver stopped all
    ten are readable; no snapshot was written.

    Fails if rows are not installed, or if a taker serves before they are.
    """
    await stage.join(100)
    clerk = stage.clerk()
    values = random_values(stage, KEYS, 5)
    await put_all(clerk, values)
    await check_all(clerk, values)
    await stage.join(101)
    await check_and_append_all(stage, clerk, values)
    await stage.leave(100)
    await check_and_append_all(stage, clerk, values)
    await stage.sleep(1.0)
    check_logs(stage)
    await stage.stop_group(100)
    await check_all(clerk, values)


@on_stage(log_bytes_max=1000)
async def test_snapshot(stage: Stage) -> None:
    """Scenario §2.4 Snapshot: thirty keys right over joins and leaves and after a restart of everything; the Raft
    state of every server is at most 8 × 1000 bytes.

    The keys are put ten times, for our gets leave nothing in the log: it would have stayed below the limit uncut.
    Fails if checkpoints leave out which configuration it is, the phases of shards, or rows that were installed, or if
    the log is not cut.
    """
    await stage.join(100)
    clerk = stage.clerk()
    values = random_values(stage, [key_in(shard, place) for shard in range(SHARDS) for place in range(3)])
    for _ in range(10):
        await put_all(clerk, values)
    await check_all(clerk, values)
    await stage.join(101)
    await stage.join(102)
    await stage.leave(100)
    await check_and_append_all(stage, clerk, values)
    await stage.leave(101)
    await stage.join(100)
    await check_and_append_all(stage, clerk, values)
    await stage.sleep(1.0)
    await check_all(clerk, values)
    await stage.sleep(1.0)
    check_logs(stage)
    for gid in GIDS:
        await stage.stop_group(gid)
    for gid in GIDS:
        await stage.start_group(gid)
    await check_all(clerk, values)


@on_stage(log_bytes_max=1000)
async def test_miss_change(stage: Stage) -> None:
    """Scenario §2.4 MissChange: servers that were down during changes of configuration catch up; every key is right
    with one server of each group down, and again when those that missed the changes are needed for a majority.

    Beyond the lab, three changes at once bring all shards to one group, and the others are stopped: an owner goes on
    serving until the next one asks, so a group that follows no configuration any more would not show.
    Fails if a group asks for the newest configuration and not for the next, or if checkpoints leave out the phases of
    shards.
    """
    await stage.join(100)
    clerk = stage.clerk()
    values = random_values(stage, KEYS)
    await put_all(clerk, values)
    await check_all(clerk, values)
    await stage.join(101)
    await stop_node_of_each(stage, 1)
    await stage.join(102)
    await stage.leave(101)
    await stage.leave(100)
    await check_and_append_all(stage, clerk, values)
    await stage.join(101)
    await check_and_append_all(stage, clerk, values)
    await start_node_of_each(stage, 1)
    await check_and_append_all(stage, clerk, values)
    await stage.sleep(2.0)
    await stop_node_of_each(stage, 2)
    await stage.join(100)
    await stage.leave(102)
    await check_and_append_all(stage, clerk, values)
    await start_node_of_each(stage, 2)
    await check_all(clerk, values)
    await stage.join(102)
    await stage.leave(101)
    await stage.leave(100)
    await stage.sleep(2.0)
    await stage.stop_group(100)
    await stage.stop_group(101)
    await check_all(clerk, values)


@on_stage(log_bytes_max=100)
async def test_concurrent1(stage: Stage) -> None:
    """Scenario §2.4 Concurrent1: ten appenders while groups join, leave, and are all stopped and started again in
    between; every key is the concatenation of what its owner was told.

    Fails if checkpoints leave out the sessions, or if the log is not cut.
    """
    await stage.join(100)
    clerk = stage.clerk()
    values = random_values(stage, KEYS, 5)
    await put_all(clerk, values)
    appenders = [Appender(stage, key, value, 5, 0.01) for key, value in values.items()]
    await stage.sleep(0.15)
    await stage.join(101)
    await stage.sleep(0.5)
    await stage.join(102)
    await stage.sleep(0.5)
    await stage.leave(100)
    await stage.stop_group(100)
    await stage.sleep(0.1)
    await stage.stop_group(101)
    await stage.sleep(0.1)
    await stage.stop_group(102)
    await stage.leave(102)
    await stage.sleep(0.1)
    for gid in GIDS:
        await stage.start_group(gid)
    await stage.sleep(0.1)
    await stage.join(100)
    await stage.leave(101)
    await stage.sleep(0.5)
    await stage.join(101)
    await stage.sleep(1.0)
    await stop_and_check(appenders, clerk)
    await check_logs_in_quiet(stage)


@on_stage()
async def test_concurrent2(stage: Stage) -> None:
    """Scenario §2.4 Concurrent2: ten appenders while shards go round the groups and groups restart that have to pull
    from different sources; every key is the concatenation of what its owner was told; no snapshot was written.

    Fails if a pull goes to the holder and not to the source that the configuration names.
    """
    await stage.join(101)
    await stage.join(100)
    await stage.join(102)
    clerk = stage.clerk()
    values = random_values(stage, KEYS, 1)
    await put_all(clerk, values)
    appenders = [Appender(stage, key, value, 1, 0.05) for key, value in values.items()]
    await stage.leave(100)
    await stage.leave(102)
    await stage.sleep(3.0)
    await stage.join(100)
    await stage.join(102)
    await stage.leave(101)
    await stage.sleep(3.0)
    await stage.join(101)
    await stage.leave(100)
    await stage.leave(102)
    await stage.sleep(3.0)
    await stage.stop_group(101)
    await stage.stop_group(102)
    await stage.sleep(1.0)
    await stage.start_group(101)
    await stage.start_group(102)
    await stage.sleep(2.0)
    await stop_and_check(appenders, clerk)
    check_logs(stage)


@on_stage(log_bytes_max=300)
async def test_concurrent3(stage: Stage) -> None:
    """Scenario §2.4 Concurrent3: ten appenders without a pause while for 12 s groups join, everything restarts at
    once, and groups leave; every key is the concatenation of what its owner was told.

    Fails if a checkpoint leaves out the phase of a shard or its sessions, or if sessions stay when their shard goes.
    """
    await stage.join(100)
    clerk = stage.clerk()
    values = random_values(stage, KEYS, 1)
    await put_all(clerk, values)
    appenders = [Appender(stage, key, value, 1) for key, value in values.items()]
    began = stage.clock.seconds()
    while stage.clock.seconds() < began + 12.0:
        await stage.join(102)
        await stage.join(101)
        await stage.sleep(0.9 * stage.dice.random())
        for gid in GIDS:
            await stage.stop_group(gid)
        for gid in GIDS:
            await stage.start_group(gid)
        await stage.sleep(0.9 * stage.dice.random())
        await stage.leave(101)
        await stage.leave(102)
        await stage.sleep(0.9 * stage.dice.random())
    await stage.sleep(2.0)
    await stop_and_check(appenders, clerk)
    await check_logs_in_quiet(stage)


@on_stage(log_bytes_max=100)
async def test_unreliable1(stage: Stage) -> None:
    """Scenario §2.4 Unreliable1: every key is right over joins and leaves though a tenth of all requests and a tenth
    of all answers are lost.

    Fails if a machine does not record what it has executed.
    """
    stage.set_unreliable(True)
    await stage.join(100)
    clerk = stage.clerk()
    values = random_values(stage, KEYS, 5)
    await put_all(clerk, values)
    for change in (stage.join(101), stage.join(102), stage.leave(100)):
        await change
    for _ in range(2):
        await check_and_append_all(stage, clerk, values)
    await stage.join(100)
    await stage.leave(101)
    for _ in range(2):
        await check_all(clerk, values)


@on_stage(log_bytes_max=100)
async def test_unreliable2(stage: Stage) -> None:
    """Scenario §2.4 Unreliable2: ten appenders over joins and leaves on the unreliable network; every key is the
    concatenation of what its owner was told.

    Fails if a machine does not record what it has executed, or if sessions do not travel with their shard.
    """
    stage.set_unreliable(True)
    await stage.join(100)
    clerk = stage.clerk()
    values = random_values(stage, KEYS, 5)
    await put_all(clerk, values)
    appenders = [Appender(stage, key, value, 5) for key, value in values.items()]
    await churn(stage)
    for appender in appenders:
        appender.halt()
    stage.set_unreliable(False)
    await stop_and_check(appenders, clerk)
    await check_logs_in_quiet(stage)


@on_stage(log_bytes_max=100)
async def test_unreliable3(stage: Stage) -> None:
    """Scenario §2.4 Unreliable3: as Unreliable2, but each of ten clients picks any key: 50 % Append, 5 % Put, 45 %
    Get. The whole history is linearizable, and the checker could decide that.

    Fails if a server answers gets from what it has applied, without a quorum, or goes on to serve what it has lost.
    """
    stage.set_unreliable(True)
    history = History()
    await stage.join(100)
    first = Rambler(stage, history, "first")
    for key in KEYS:
        await first.call("put", key)
    ramblers = [Rambler(stage, history, f"c{number}") for number in range(10)]
    living = [rambler.live() for rambler in ramblers]
    await together([*living, halted_after(stage, ramblers)])
    assert not history.open and history.unknown_count == 0
    assert len(history) > 200
    assert findings(history) == []


@on_stage(log_bytes_max=1)
async def test_challenge1_delete(stage: Stage) -> None:
    """Scenario §2.4 Challenge1Delete: after shards went round the groups twice, all nine servers together keep at most
    3 × (27 × 1000 + 2 × 3 × 1000 + 6000) = 117,000 bytes, 1.30 × the ideal; all thirty keys are readable.

    Measured are the rows of the applied state, with keys, values, sessions and configuration, and the rows of the log
    with term and vote: not the files.

    Fails if a giver is never asked to drop, if the rows of a dropped copy stay on disk, or if the log is not cut.
    """
    await stage.join(100)
    clerk = stage.clerk()
    values = random_values(stage, [key_in(shard, place) for shard in range(SHARDS) for place in range(3)], 1000)
    await put_all(clerk, values)
    three = dict(list(values.items())[::10])
    for _ in range(2):
        await stage.join(101)
        await stage.leave(100)
        await stage.join(102)
        await stage.sleep(3.0)
        await check_all(clerk, three)
        await stage.leave(101)
        await stage.join(100)
        await stage.leave(102)
        await stage.sleep(3.0)
        await check_all(clerk, three)
    await stage.join(101)
    await stage.join(102)
    for _ in range(3):
        await stage.sleep(1.0)
        await check_all(clerk, three)
    kept = sum(stage.raft_state_bytes(*replica) + stage.snapshot_bytes(*replica) for replica in REPLICAS)
    assert 3 * 30 * 1000 <= kept <= 3 * (27 * 1000 + 2 * 3 * 1000 + 6000)
    await check_all(clerk, values)


@on_stage(log_bytes_max=100)
async def test_challenge2_unaffected(stage: Stage) -> None:
    """Scenario §2.4 Challenge2Unaffected: group 101 goes on serving the shards it had, reads and writes, though it can
    never obtain those of group 100, which is dead and has left.

    Fails if a group serves nothing while a shard of its is PULLING.
    """
    stage.set_unreliable(True)
    await stage.join(100)
    clerk = stage.clerk()
    await put_all(clerk, dict.fromkeys(KEYS, "100"))
    shards = (await stage.join(101)).shards
    owned = [key for key in KEYS if shards[shard_of(key, SHARDS)] == 101]
    assert len(owned) == SHARDS // 2
    await stage.sleep(1.0)
    await put_all(clerk, dict.fromkeys(owned, "101"))
    await stage.stop_group(100)
    assert set((await stage.leave(100)).shards) == {101}
    await stage.sleep(1.0)
    for key in owned:
        assert await clerk.get(key) == "101"
        await clerk.put(key, "101-1")
        assert await clerk.get(key) == "101-1"


@on_stage(log_bytes_max=100)
async def test_challenge2_partial(stage: Stage) -> None:
    """Scenario §2.4 Challenge2Partial: group 101 serves what it gained from 102 as soon as that has come, though it
    waits for ever for the shards of 100, which is dead and has left with 102.

    Fails if a group serves nothing while a shard of its is PULLING.
    """
    stage.set_unreliable(True)
    shards = (await stage.join(100, 101, 102)).shards
    await stage.sleep(1.0)
    clerk = stage.clerk()
    await put_all(clerk, dict.fromkeys(KEYS, "100"))
    moving = [key for key in KEYS if shards[shard_of(key, SHARDS)] == 102]
    assert len(moving) == 3
    await stage.stop_group(100)
    assert set((await stage.leave(100, 102)).shards) == {101}
    await stage.sleep(1.0)
    for key in moving:
        assert await clerk.get(key) == "100"
        await clerk.put(key, "100-2")
        assert await clerk.get(key) == "100-2"


# ── what several of them do ────────────────────────────────────────────────────────────────────────


class Rambler:
    """A client that picks any key, and writes down what it was told."""

    def __init__(self, stage: Stage, history: History, name: str) -> None:
        self._stage = stage
        self._history = history
        self._name = name
        self._clerk = stage.clerk()
        self._tokens = 0
        self._stopping = False

    def halt(self) -> None:
        """Make no further call."""
        self._stopping = True

    async def live(self) -> None:
        """Call until halted."""
        dice = self._stage.dice
        while not self._stopping:
            drawn = dice.random()
            key = KEYS[int(dice.random() * len(KEYS))]
            await self.call("append" if drawn < 0.5 else "put" if drawn < 0.55 else "get", key)

    async def call(self, verb: str, key: str) -> None:
        """One call; a failure is not expected."""
        begin, now = self._history.begin, self._stage.clock.seconds()
        if verb == "get":
            call: Call = begin(self._name, "get", key, None, now)
            self._history.succeeded(call, await self._clerk.get(key, None, timeout=PATIENT))
            return
        self._tokens += 1
        token = f"<{self._name}.{self._tokens}>"
        if verb == "put":
            call = begin(self._name, "put", key, token, now)
            await self._clerk.put(key, token, timeout=PATIENT)
        else:
            call = begin(self._name, "append", key, token, now)
            await self._clerk.append(key, token, timeout=PATIENT)
        self._history.succeeded(call, None)


async def halted_after(stage: Stage, ramblers: list[Rambler]) -> None:
    """Churn, then stop them and calm the network."""
    await churn(stage)
    for rambler in ramblers:
        rambler.halt()
    stage.set_unreliable(False)


async def churn(stage: Stage) -> None:
    """The changes of Unreliable2 and Unreliable3."""
    await stage.sleep(0.15)
    await stage.join(101)
    await stage.sleep(0.5)
    await stage.join(102)
    await stage.sleep(0.5)
    await stage.leave(100)
    await stage.sleep(0.5)
    await stage.leave(101)
    await stage.sleep(0.5)
    await stage.join(101)
    await stage.join(100)
    await stage.sleep(2.0)


async def stop_node_of_each(stage: Stage, node: int) -> None:
    """The same node of every group."""
    for gid in GIDS:
        await stage.stop(gid, node)


async def start_node_of_each(stage: Stage, node: int) -> None:
    """The same node of every group."""
    for gid in GIDS:
        await stage.start(gid, node)


def random_values(stage: Stage, keys: tuple[str, ...] | list[str], length: int = 20) -> dict[str, str]:
    """A random string for each key."""
    return {key: text(stage.dice, length) for key in keys}


def check_logs(stage: Stage) -> None:
    """The lab's ``checklogs``: Raft state ≤ 8 × maxraftstate on every server, running or not; with −1 no snapshot.

    An entry of ours packs all commands of a turn and is counted whole; nothing is taken off for that.
    """
    limit = stage.setting.log_bytes_max
    for replica in REPLICAS:
        if limit < 0:
            assert stage.checkpoint_index(*replica) == 0
        else:
            assert stage.checkpoint_index(*replica) > 0
            assert stage.raft_state_bytes(*replica) <= 8 * limit


async def check_logs_in_quiet(stage: Stage) -> None:
    """After a second without clients."""
    await stage.sleep(1.0)
    check_logs(stage)

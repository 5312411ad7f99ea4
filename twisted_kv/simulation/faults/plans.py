"""Plans: what goes wrong in a life, how often and for how long, and what the life is otherwise made of.

A plan names faults by the methods of Nemesis that do them, with weights. It decides nothing; it is data. One plan for
each area of the code, each sharp enough to find what was planted there, and one with everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from twisted_kv.constants import ROWS_CHUNK_BYTES
from twisted_kv.simulation.doors.network import RELIABLE, UNRELIABLE, Conditions

STORM: Final = Conditions(
    request_seconds=(0.0, 0.06),
    reply_seconds=(0.0, 0.06),
    request_loss=0.25,
    reply_loss=0.15,
    duplicate=0.25,
    late=0.1,
    limbo=0.1,
    strange=0.1,
)


SMALL_CHUNKS: Final = (100, 100, 250, 250, 1000, ROWS_CHUNK_BYTES)
WITHHOLDING: Final = Conditions(duplicate=0.6)


class Hints(msgspec.Struct, frozen=True):
    """What a plan wishes the shape of a life to be. A tuple: one of these is drawn, each as likely.

    Attributes:
        controllers: how many there are.
        groups: how many there are.
        members: of each group.
        log_bytes_max: small: checkpoints, cuts and snapshots all the time.
        administrators: how many change configurations at once, each with a ControllerClerk of its own; where the
            plan has ``churn_seconds``.
        reads: share of the calls that are reads; None: as the mix of the workload says.
        drift: clocks of members run slower or faster by up to this part.
        one_process: controllers and groups live and die together, as in kv-node.
        rivals: a second set of processes under the gid of the first group, which joined before they booted.
        wire: whether all that crosses goes through the production transport, on simulated TCP.
        fidgets: how likely it is that administrators move the shards in use to and fro.
        shared_clerk: how likely it is that all clients call through one Clerk.
        at_once: calls that a client makes at once, if it makes several.
        cancels: share of the calls that are cancelled.
        sessions_max: of a shard; empty: as the knobs say.
        chunk_bytes: that a taker of rows asks for at once; empty: as the knobs say.
        lodgers: clients whose keys come and go in a shard that all use.
    """

    controllers: tuple[int, ...] = (3,)
    groups: tuple[int, ...] = (2, 2, 3)
    members: tuple[int, ...] = (3, 3, 3, 5)
    log_bytes_max: tuple[int, ...] = (500, 2_000, 10_000, 1 << 20)
    administrators: tuple[int, ...] = (1,)
    reads: float | None = None
    drift: tuple[float, ...] = (0.0, 0.0, 0.1)
    one_process: bool = False
    rivals: bool = False
    wire: tuple[bool, ...] = (False,)
    fidgets: float = 0.5
    shared_clerk: float = 0.4
    at_once: tuple[int, ...] = (1, 1, 4)
    cancels: tuple[float, ...] = (0.0, 0.03)
    sessions_max: tuple[int, ...] = ()
    chunk_bytes: tuple[int, ...] = ()
    lodgers: tuple[int, ...] = (0,)


class Plan(msgspec.Struct, frozen=True):
    """What a run is made of.

    Attributes:
        name: by which it is asked for.
        faults: name of a method of Nemesis → weight.
        every_seconds: (least, most) time from one fault to the next.
        lasting_seconds: (least, most) time for which one lasts.
        conditions: of the network between faults.
        churn_seconds: (least, most) pause between two changes of the configuration; None: no changes.
        shape: what the plan wishes of everything else that a seed draws.
    """

    name: str
    faults: Mapping[str, float] = {}
    every_seconds: tuple[float, float] = (0.2, 1.5)
    lasting_seconds: tuple[float, float] = (0.1, 2.0)
    conditions: Conditions = RELIABLE
    churn_seconds: tuple[float, float] | None = None
    shape: Hints = Hints()

    @property
    def is_gentle(self) -> bool:
        """Whether nothing goes wrong: then no call may fail."""
        return not self.faults and self.conditions == RELIABLE


_CRASHES: Final = {
    "crash": 4.0,
    "crash_leader": 3.0,
    "crash_while_saving": 3.0,
    "crash_group": 1.0,
    "crash_all": 0.3,
    "terminate": 2.0,
}
_AMBUSHES: Final = {
    "ambush_election": 2.0,
    "ambush_log": 2.0,
    "ambush_snapshot": 2.0,
    "ambush_move": 2.0,
    "ambush_copy": 1.0,
}
_PARTITIONS: Final = {
    "halves": 3.0,
    "isolate_leader": 3.0,
    "one_way": 3.0,
    "minority": 3.0,
    "slow_link": 1.0,
    "bridge": 1.0,
    "ring": 1.0,
    "heal_one_by_one": 1.0,
}
_PAUSES: Final = {"pause": 2.0, "pause_leader": 2.0}
_CLOCKS: Final = {"leap": 1.0, "suspend": 1.0}
_DISKS: Final = {
    "slow_disk": 1.0,
    "stalled_disk": 1.0,
    "full_disk": 1.0,
    "failing_disk": 1.0,
    "second_process": 0.3,
    "failing_commit": 1.0,
}
_POWER: Final = {"power_cut": 1.0, "power_failure": 0.2, "blackout": 0.7, "flip": 0.5}
_WIPES: Final = {"wipe": 2.0}
_NETWORK: Final = {"unreliable": 2.0, "storm": 1.0, "withhold": 2.0, "withhold_votes": 0.5}
_ECHOES: Final = {"echo": 2.0, "misquote": 0.5}
_OFTEN: Final = (0.1, 0.8)

PLANS: Final[Mapping[str, Plan]] = {
    plan.name: plan
    for plan in (
        Plan("calm"),
        Plan("lossy", _NETWORK, conditions=UNRELIABLE),
        Plan("crashes", _CRASHES | _AMBUSHES | _DISKS),
        Plan("partitions", _PARTITIONS | _PAUSES),
        Plan("wipes", _WIPES | _CRASHES | _PARTITIONS),
        Plan("churn", churn_seconds=(0.1, 2.0), shape=Hints(lodgers=(0, 0, 2))),
        Plan(
            "everything",
            _CRASHES
            | _AMBUSHES
            | _PARTITIONS
            | _PAUSES
            | _CLOCKS
            | _DISKS
            | _POWER
            | _NETWORK
            | _WIPES
            | _ECHOES
            | {"estrange": 1.0},
            churn_seconds=(0.5, 4.0),
            shape=Hints(
                administrators=(1, 1, 2),
                drift=(0.0, 0.0, 0.1, 0.5),
                wire=(True, *[False] * 7),
                lodgers=(0, 0, 1),
            ),
        ),
        Plan(
            "elections",
            {
                "ambush_election": 4.0,
                "withhold": 3.0,
                "withhold_votes": 3.0,
                "ambush_log": 1.0,
                "storm": 1.0,
                "crash_leader": 1.0,
            }
            | {"pause_leader": 1.0, "isolate_leader": 2.0, "bridge": 1.0, "ring": 1.0, "terminate": 2.0}
            | {"stalled_disk": 0.5, "full_disk": 0.5},
            _OFTEN,
            shape=Hints(groups=(1, 2), members=(3, 5, 5), controllers=(3, 5)),
        ),
        Plan(
            "snapshots",
            {
                "ambush_snapshot": 4.0,
                "ambush_install": 2.0,
                "ambush_giver": 1.5,
                "minority": 3.0,
                "crash": 2.0,
                "slow_disk": 1.0,
                "crash_while_saving": 1.0,
            }
            | {"wipe": 0.5, "power_cut": 0.5, "full_disk": 0.5, "storm": 0.5, "crash_leader": 0.5},
            _OFTEN,
            shape=Hints(groups=(1, 2), log_bytes_max=(300, 1_000, 3_000)),
        ),
        Plan(
            "outdated",
            {"outdate": 4.0, "ambush_install": 1.0, "crash": 1.0, "terminate": 0.5},
            (0.2, 1.0),
            shape=Hints(groups=(1,), log_bytes_max=(300, 300, 1_000)),
        ),
        Plan(
            "cuts",
            {"isolate_leader": 4.0, "halves": 2.0, "pause_leader": 1.0, "bridge": 1.0}
            | {"ambush_cut": 4.0, "crash_leader": 0.5, "power_cut": 0.5, "slow_disk": 0.5},
            (0.2, 1.2),
            (0.4, 2.0),
            shape=Hints(groups=(1, 2)),
        ),
        Plan(
            "rows",
            {"minority": 4.0, "pause": 2.0, "ambush_fed": 3.0, "ambush_install": 2.0, "ambush_giver": 1.5}
            | {"ambush_snapshot": 2.0, "full_disk": 3.0, "power_cut": 1.0, "crash": 1.0, "storm": 1.0}
            | {"withhold_acks": 1.0},
            _OFTEN,
            churn_seconds=(0.2, 2.0),
            shape=Hints(groups=(2, 3), log_bytes_max=(300, 300, 1_000), lodgers=(0, 2)),
        ),
        Plan(
            "laggards",
            {"minority": 4.0, "pause": 3.0, "withhold": 2.0, "storm": 2.0, "slow_link": 1.0, "one_way": 1.0}
            | {"withhold_acks": 3.0},
            (0.3, 1.5),
            (0.3, 2.0),
            shape=Hints(groups=(1, 2), log_bytes_max=(300, 300, 1_000)),
        ),
        Plan(
            "clocks",
            _CLOCKS | _PAUSES | {"crash": 0.5, "isolate_leader": 1.0, "withhold": 1.0},
            shape=Hints(drift=(0.1, 0.5)),
        ),
        Plan(
            "disks",
            _DISKS
            | _POWER
            | {
                "blackout": 2.0,
                "failing_disk": 2.0,
                "flip": 2.0,
                "wipe": 1.0,
                "crash_while_saving": 2.0,
                "ambush_log": 1.0,
            },
        ),
        Plan(
            "moves",
            {
                "ambush_move": 4.0,
                "ambush_pull": 3.0,
                "ambush_copy": 2.0,
                "ambush_givers": 2.0,
                "ambush_heir": 2.0,
                "minority": 2.0,
                "bridge": 1.0,
                "halves": 1.0,
            }
            | {"crash_leader": 1.0, "crash_group": 0.5, "isolate_leader": 1.0}
            | _ECHOES
            | {"estrange": 1.5, "slow_disk": 1.0},
            _OFTEN,
            churn_seconds=(0.2, 2.0),
            shape=Hints(
                groups=(2, 3, 5), controllers=(3, 3, 5), fidgets=0.8, chunk_bytes=SMALL_CHUNKS, lodgers=(0, 1, 3)
            ),
        ),
        Plan(
            "reads",
            {"isolate_leader": 3.0, "pause_leader": 3.0, "suspend": 1.0, "withhold_heartbeats": 4.0, "halves": 1.0}
            | {"crash_leader": 0.5, "one_way": 1.0, "move_house": 0.5},
            _OFTEN,
            shape=Hints(groups=(1, 2), reads=0.8),
        ),
        Plan(
            "administrators",
            {"unreliable": 2.0, "crash_leader": 2.0, "halves": 1.0, "ambush_move": 1.0, "ambush_pull": 1.0} | _ECHOES,
            churn_seconds=(0.1, 1.5),
            shape=Hints(groups=(2, 3, 4), administrators=(2, 3, 4)),
        ),
        Plan(
            "node",
            {
                "crash": 3.0,
                "power_cut": 2.0,
                "terminate": 1.0,
                "crash_while_saving": 3.0,
                "pause": 1.0,
                "ambush_log": 1.0,
            }
            | _DISKS,
            churn_seconds=(0.5, 3.0),
            shape=Hints(controllers=(1,), groups=(1,), members=(1,), one_process=True),
        ),
        Plan(
            "rivals",
            {"invade": 1.0, "move_house": 1.0, "crash": 1.0, "crash_leader": 1.0, "halves": 1.0, "wipe": 0.5}
            | {"echo": 1.0, "misquote": 1.0},
            _OFTEN,
            shape=Hints(groups=(1, 2), members=(3,), rivals=True),
        ),
        Plan(
            "echoes",
            {"echo": 6.0, "misquote": 1.0, "estrange": 2.0, "slow_disk": 1.5, "ambush_move": 1.0}
            | {"ambush_copy": 1.0, "ambush_givers": 1.0, "ambush_heir": 1.0}
            | {"crash": 1.0, "crash_leader": 1.0, "crash_group": 0.5},
            _OFTEN,
            churn_seconds=(0.1, 1.0),
            shape=Hints(
                groups=(2, 2, 3),
                members=(3,),
                log_bytes_max=(300, 1_000, 10_000),
                fidgets=0.9,
                chunk_bytes=SMALL_CHUNKS,
                lodgers=(0, 2),
            ),
        ),
        Plan(
            "sessions",
            {"unreliable": 1.0, "storm": 1.0, "crash_leader": 1.0, "isolate_leader": 1.0, "echo": 2.0, "misquote": 2.0},
            conditions=UNRELIABLE,
            churn_seconds=(1.0, 4.0),
            shape=Hints(
                groups=(1, 2, 2),
                members=(3,),
                fidgets=0.9,
                shared_clerk=0.2,
                at_once=(4, 8),
                cancels=(0.0, 0.03, 0.3),
                sessions_max=(1, 2, 4),
            ),
        ),
        Plan(
            "wire",
            {"unreliable": 2.0, "storm": 3.0, "withhold": 1.0, "slow_link": 1.0, "halves": 1.0, "one_way": 2.0}
            | {"isolate_leader": 1.0, "crash": 2.0, "crash_leader": 1.0, "power_cut": 1.0, "terminate": 2.0}
            | {"pause": 1.0, "pause_leader": 1.0, "suspend": 0.5, "crash_group": 0.3},
            (0.4, 2.0),
            conditions=UNRELIABLE,
            churn_seconds=(3.0, 9.0),
            shape=Hints(groups=(1, 2, 2), members=(3,), wire=(True,)),
        ),
    )
}

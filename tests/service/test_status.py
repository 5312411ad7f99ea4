from __future__ import annotations

from typing import Any

from twisted_kv.machines.configuration import Configuration, Holder, Member
from twisted_kv.service.status import controller_status

HERE = Member(100, 2, ("tcp:a:1",))
LEFT = Member(101, 1, ("tcp:b:1",))
BACK = Member(100, 1, ("tcp:old:1",))


class Answer:
    configuration = Configuration(
        num=3, shards=(100, 100), members=(HERE,), sources=(Holder(101, 1, 1), None), former=(BACK, LEFT)
    )


class Described:
    machine: Any

    def __init__(self) -> None:
        self.machine = self
        self.asked: list[int] = []

    def query(self, query: Any) -> Answer:
        self.asked.append(query.num)
        return Answer()

    def status(self) -> dict[str, Any]:
        return {"node": 2, "role": "leader"}


def test_a_controller_tells_where_groups_are_without_a_quorum() -> None:
    """Contract §2: status answers without a quorum; §5.6: a group that left is seen until it holds nothing more."""
    member = Described()
    assert controller_status(member, {1: "tcp:c:1", 2: "tcp:d:1"}) == {
        "node": 2,
        "role": "leader",
        "config": {"num": 3, "shards": [100, 100], "groups": {100: ["tcp:a:1"]}},
        "former": {101: ["tcp:b:1"]},
        "peers": {1: "tcp:c:1", 2: "tcp:d:1"},
    }
    assert member.asked == [-1]

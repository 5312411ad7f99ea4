"""The twistd commands kv-controller, kv-group and kv-node.

Every start of twistd imports this file, so it names the services and loads nothing.
"""

from twisted.application.service import ServiceMaker

kv_controller = ServiceMaker(
    "twisted-kv shard controller",
    "twisted_kv.service.controller",
    "One replica of the shard controller: which group serves which shard.",
    "kv-controller",
)
kv_group = ServiceMaker(
    "twisted-kv replica group",
    "twisted_kv.service.group",
    "One replica of a group: serves the shards that the controller gives it.",
    "kv-group",
)
kv_node = ServiceMaker(
    "twisted-kv node",
    "twisted_kv.service.node",
    "A whole store in one process: a controller and a group of one replica each.",
    "kv-node",
)

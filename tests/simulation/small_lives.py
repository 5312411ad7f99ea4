"""Lives that are short and alike, for tests that plant a fault in them."""

import msgspec

from twisted_kv.simulation.lives.life import Shape

SMALL = Shape(
    groups={100: 3, 101: 3},
    log_bytes_max=2_000,
    owners=2,
    ramblers=2,
    keys=2,
    full_mix=False,
    timeouts=(1.5,),
    seconds=5.0,
)
SHORT = msgspec.structs.replace(SMALL, seconds=3.0)

"""Limits and lengths that several rooms must agree on; units stand in the names.

What only one room cares about stays in that room. Relations between the figures
are asserted at the foot, so that a changed figure cannot break another silently.
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# What users see (the limits that every server and Clerk enforce).
KEY_BYTES_MAX: Final = 4096
VALUE_BYTES_DEFAULT: Final = 2 * MIB
VALUE_BYTES_CEILING: Final = 16 * MIB
SHARDS_DEFAULT: Final = 128
SHARDS_MAX: Final = 4096
CALL_TIMEOUT_SECONDS: Final = 10.0

# One entry of the log: several commands up to ENTRY_BYTES_MAX, or a single larger one.
ENTRY_BYTES_MAX: Final = 1 * MIB
COMMAND_BYTES_MAX: Final = VALUE_BYTES_CEILING + 64 * KIB

# What is applied in one turn: about this much, or one larger entry. Small commands of so many bytes take some 20 ms.
APPLY_BYTES_MAX: Final = 256 * KIB

# Rows in motion: a shard that moves, a checkpoint slice; a snapshot that is streamed, each chunk of which is a way
# there and back between two busy servers.
ROWS_CHUNK_BYTES: Final = 256 * KIB
STREAM_CHUNK_BYTES: Final = 1 * MIB

# The wire: a blob above WIRE_PART_BYTES crosses in parts.
WIRE_PART_BYTES: Final = 256 * KIB
WIRE_BODY_BYTES_MAX: Final = COMMAND_BYTES_MAX + 2 * MIB
OUTBOX_BYTES_MAX: Final = 32 * MIB

# Clocks. A tick is the only time that a consensus core knows.
TICK_SECONDS: Final = 0.05
HEARTBEAT_TICKS: Final = 2
ELECTION_TICKS: Final = 8

# A group asks for the configuration after its own; as long as there is none, the answer is held back.
CONFIGURATION_HELD_SECONDS: Final = 2.0

# Sessions, per shard.
SESSIONS_PER_SHARD_MAX: Final = 4096
SESSION_RESULTS_MAX: Final = 1024
SESSION_RESULT_BYTES_MAX: Final = VALUE_BYTES_CEILING + 1 * MIB

# The log is cut beyond this many bytes, once a checkpoint covers it.
LOG_BYTES_MAX_DEFAULT: Final = 16 * MIB

assert VALUE_BYTES_DEFAULT <= VALUE_BYTES_CEILING < COMMAND_BYTES_MAX < WIRE_BODY_BYTES_MAX
assert WIRE_PART_BYTES < 640 * KIB, "Banana refuses a longer string"
assert ROWS_CHUNK_BYTES <= ENTRY_BYTES_MAX
assert 2 * HEARTBEAT_TICKS < ELECTION_TICKS
assert SESSION_RESULT_BYTES_MAX >= VALUE_BYTES_CEILING
assert 2 * WIRE_BODY_BYTES_MAX > OUTBOX_BYTES_MAX > WIRE_BODY_BYTES_MAX

"""Bounds that the state machine itself relies on.

They are constants, not settings: two nodes with different values would diverge. What an operator may set
is checked by the leader before it proposes (`coordinator.config`).
"""

from __future__ import annotations

from typing import Final

ATTEMPTS_KEPT: Final = 16
"""Attempts remembered per task; older ones are dropped from its record."""

LIVE_ATTEMPTS: Final = 4
"""Attempts of one task that may be live at once, each on an agent of its own."""

LOST_ATTEMPTS: Final = 8
"""Attempts of one task that may be lost with their agents or rejected by them before the task counts as
failed: it may be what kills them."""

SWEEP_STEP: Final = 500
"""Tasks looked at per step when a failure or a cancel spreads: what is left follows in later entries."""

REQUESTS_KEPT: Final = 100_000
"""Replies remembered for retries; the oldest go first."""

REQUEST_TTL_MS: Final = 600_000
"""For how long a reply is remembered, in milliseconds of the leaders' clock."""

KV_KEY_BYTES: Final = 1_024
"""A key of the key-value space, in UTF-8."""

KV_VALUE_BYTES: Final = 256 << 10
"""A value of the key-value space."""

KV_KEYS: Final = 1_000_000
"""Keys of the key-value space. Memory holds about 300 bytes for each."""

KV_BYTES: Final = 2 << 30
"""All keys and values together; values are on the disk alone."""

WRITERS_KEPT: Final = 50_000
"""Clients whose numbered writes are remembered; the longest idle go first."""

WRITER_TTL_MS: Final = 600_000
"""For how long after its last write a client is remembered, in milliseconds of the leaders' clock."""

UNANSWERED_WRITES: Final = 4_096
"""Writes of one client that were carried out and whose answers it has not confirmed."""

WRITER_CHARS: Final = 64
"""Characters of the name of a client that numbers its writes."""

NAMESPACES_KEPT: Final = 1_000
"""Namespaces that may have settings of their own."""

NAMESPACE_CHARS: Final = 256
"""Characters of the name of a namespace that has settings."""

LEAST_WEIGHT: Final = 0.001
"""Of a namespace."""

GREATEST_WEIGHT: Final = 1_000.0
"""Of a namespace."""

RESERVATIONS_KEPT: Final = 100
"""Reservations, those that are over included; one that is makes room for a new one."""

RESERVED_SLOTS: Final = 1 << 20
"""That a reservation may want of each agent."""

RESERVED_AGENTS: Final = 100
"""Agents that a reservation may name; more have a label or a group in common."""

RESERVED_LABELS: Final = 16
"""Labels that a reservation may ask for."""

RESERVED_CHARS: Final = 256
"""Characters of every name in a reservation."""

LOAD_GRIDS: Final = 3
"""Regular grids on which the load of the past is kept."""

LOAD_STEPS: Final = 384
"""Steps kept of each grid; a new one takes the place of the oldest."""

LOAD_STEP_BYTES: Final = 1 << 20
"""One step, with the loads of all agents, as the leader packs it."""

HISTORY_KEPT: Final = 65_536
"""Pairs of an agent and a kind of task whose ends are remembered; the one longest without an end goes first.
Memory holds about 300 bytes for each."""

HISTORY_WINDOW: Final = 256
"""Older ends of a pair lose weight so that no more than these count."""

HISTORY_GONE_ENDS: Final = 32
"""What agents that are forgotten have taught of a kind counts for at most so many ends."""

MAX_DELAY_MS: Final = 86_400_000
"""Longest delay between two attempts."""

REASON_CHARS: Final = 2_000
"""Characters kept of an error message or reason."""

MAX_TIME_MS: Final = 1 << 52
"""Latest time that is believed of an entry: what is computed from it still fits into 64 bits."""

MAX_TASKS_PER_DAG: Final = 1 << 24
"""What a task's key has room for; the configured limit is far lower."""

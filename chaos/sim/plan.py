"""What a seed stands for: a cluster, its settings, its load, and a schedule of faults. Faults are data, so
that a schedule can be printed, cut down and run again."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any, Final

import msgspec

LOAD_S: Final = 6.0
"""How long clients submit and faults come."""

FOR_GOOD_S: Final = 86_400
"""Longer than any world lasts, whatever its clocks do."""

_SPARES: Final = 8
_FIRST_FAULT_S: Final = 0.7
_MIX: Final = (4, 14)
"""The fewest and the most kinds of faults in a world."""
_LEADERS: Final = 3
"""The leader is struck as often as so many nodes."""


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that goes wrong `at_s` seconds after the beginning, or a little later if it could do no harm
    then, to `target`: a machine, "leader" for whichever node leads then, "newest" for the last that was
    added, or "a>b" for the way between two. It lasts for `lasts_s`; what `amount` means depends on the
    kind."""

    at_s: float
    kind: str
    target: str = ""
    lasts_s: float = 0.0
    amount: float = 0.0

    def __str__(self) -> str:
        lasts = f" for {self.lasts_s:.3f} s" if self.lasts_s else ""
        amount = f" ({self.amount:g})" if self.amount else ""
        return f"{self.at_s:.3f} {self.kind} {self.target}{amount}{lasts}"


class Plan(msgspec.Struct, frozen=True):
    """A world. A message between machines takes `delay_s` at the median, a sync `sync_s`; a client submits a
    DAG about every `pause_s`. `raft` overrules the nodes' consensus settings, `settings` others, by their
    names. `spares` are machines for nodes to come."""

    seed: int
    nodes: int
    spares: int
    agents: int
    clients: int
    pause_s: float
    delay_s: float
    sync_s: float
    raft: dict[str, Any]
    faults: tuple[Fault, ...]
    settings: dict[str, Any] = {}

    @property
    def node_ids(self) -> list[str]:
        """Of the first members."""
        return [f"n{number}" for number in range(1, self.nodes + 1)]

    @property
    def spare_ids(self) -> list[str]:
        """Of nodes that may be added, in this order."""
        return [f"n{number}" for number in range(self.nodes + 1, self.nodes + self.spares + 1)]

    @property
    def agent_ids(self) -> list[str]:
        """Of all agents."""
        return [f"a{number}" for number in range(1, self.agents + 1)]

    @property
    def client_ids(self) -> list[str]:
        """Of all clients."""
        return [f"c{number}" for number in range(1, self.clients + 1)]


class Kind(msgspec.Struct, frozen=True):
    """A kind of fault: what it strikes ("node", "member", "disk", "leader", "way", "link", "agent", "client",
    "cluster"), the range of how long it lasts in seconds, and the range of its amount. `often` is how
    much likelier it is in a mix than others, for those that come about rarely: with less weight there, so
    that it does not drown the others."""

    strikes: str
    lasts_s: tuple[float, float] = (0.0, 0.0)
    amount: tuple[float, float] = (0.0, 0.0)
    often: float = 1.0


KINDS: Final[dict[str, Kind]] = {
    "kill": Kind("node", (0.0, 1.5), (0, 60)),
    "power_loss": Kind("node", (0.0, 1.5), (0, 60)),
    "stop": Kind("node", (0.0, 1.0)),
    "pause": Kind("node", (0.05, 2.0)),
    "stall": Kind("node", (0.02, 0.2)),
    "clock_jump": Kind("node", amount=(-600_000, 600_000)),
    "transfer": Kind("leader", amount=(1, 5), often=3),
    "member_add": Kind("cluster", (0.0, 1.0), (0, 1), often=2),
    "member_remove": Kind("member", often=3),
    "member_replace": Kind("member", (0.0, 0.5), (0, 1), often=2.5),
    "member_wipe": Kind("disk", (0.0, 0.3), (0, 1), often=9),
    "member_move": Kind("disk", (0.0, 0.5), often=3),
    "isolate": Kind("node", (0.1, 3.0)),
    "halves": Kind("node", (0.1, 3.0)),
    "bridge": Kind("node", (0.1, 3.0)),
    "one_way": Kind("way", (0.1, 3.0)),
    "both_ways": Kind("way", (0.1, 3.0)),
    "slow_link": Kind("way", (0.2, 3.0), (5, 200)),
    "reset": Kind("link", often=2),
    "message_loss": Kind("node", (0.2, 3.0), (0.01, 0.3)),
    "message_doubling": Kind("node", (0.2, 3.0), (0.01, 0.5)),
    "message_overtaking": Kind("node", (0.2, 3.0), (0.01, 0.5)),
    "disk_slow": Kind("node", (0.2, 3.0), (5, 300)),
    "sync_fails": Kind("node", (0.1, 2.0)),
    "disk_full": Kind("node", (0.1, 2.0)),
    "bit_flip": Kind("disk", often=9),
    "agent_kill": Kind("agent", (0.0, 1.0), (0, 40)),
    "agent_stop": Kind("agent", (0.0, 1.0)),
    "agent_lost": Kind("agent", (0.0, 0.5), (0, 40)),
    "agent_pause": Kind("agent", (0.05, 2.0)),
    "agent_cut": Kind("agent", (0.1, 4.0)),
    "client_cut": Kind("client", (0.1, 2.0)),
    "retry_storm": Kind("client"),
    "moves": Kind("leader", amount=(5, 40), often=2),
}
"""Every kind of fault that a schedule may hold."""

JOINING: Final = frozenset({"member_add", "member_replace"})
"""Those by which a node comes to a spare machine."""


def draw(seed: int, kinds: Sequence[str] = ()) -> Plan:
    """The world of this seed: a cluster, a mix of faults (a few kinds, or those that are given) with weights
    of their own, and a schedule drawn from the mix."""
    rng = random.Random(f"plan/{seed}")
    bare = Plan(
        seed=seed,
        nodes=rng.choice((3, 5)),
        spares=0,
        agents=rng.randint(2, 4),
        clients=rng.randint(1, 2),
        pause_s=rng.choice((0.2, 0.4, 0.8)),
        delay_s=rng.choice((0.0002, 0.0005, 0.0005, 0.004)),
        sync_s=rng.choice((0.0002, 0.0006, 0.0006, 0.005)),
        raft=_raft(rng) | _links(random.Random(f"links/{seed}")),
        faults=(),
        settings=_settings(random.Random(f"settings/{seed}")),
    )
    kinds = kinds or _mix(rng)
    if JOINING & set(kinds):
        bare = msgspec.structs.replace(bare, spares=_SPARES)
    weights = [(rng.expovariate(1.0) + 0.1) / math.cbrt(KINDS[kind].often) for kind in kinds]
    pause_s = rng.choice((0.05, 0.1, 0.2))
    faults: list[Fault] = []
    at_s = _FIRST_FAULT_S
    while (at_s := at_s + rng.expovariate(1 / pause_s)) < LOAD_S:
        (kind,) = rng.choices(kinds, weights)
        faults.append(_fault(rng, bare, kind, at_s))
    return msgspec.structs.replace(bare, faults=tuple(faults))


def _mix(rng: random.Random) -> list[str]:
    """A few kinds, without repetition (Efraimidis and Spirakis, "Weighted random sampling with a reservoir",
    2006)."""
    drawn = {kind: rng.random() ** (1 / how.often) for kind, how in sorted(KINDS.items())}
    return sorted(drawn, key=drawn.__getitem__)[-rng.randint(*_MIX) :]


def _raft(rng: random.Random) -> dict[str, Any]:
    """Small bounds, so that every one of them is met: compaction, snapshots, windows, tails. Time-outs that
    lie close together, so that nodes stand for election at once."""
    compact = rng.choice((30, 100, 50_000))
    election_min_s = rng.choice((0.2, 0.3))
    return {
        "election_min_s": election_min_s,
        "election_max_s": election_min_s * rng.choice((1.05, 1.5, 2.0)),
        "orphan_jitter_s": rng.choice((0.002, 0.01, 0.05)),
        "compact_after_entries": compact,
        "keep_entries": rng.choice((1, 10, 29)),
        "tail_entries": rng.choice((10, 100, 16_384)),
        "max_append_entries": rng.choice((3, 20, 4_096)),
        "apply_entries": rng.choice((2, 1_024)),
        "brief_sync_s": rng.choice((1e-6, 6e-4, 0.01)),
        "window_messages": rng.choice((1, 4)),
        "snapshot_resend_s": 0.3,
        "snapshot_stall_s": 1.0,
        "snapshot_retry_s": 0.2,
    }


def _settings(rng: random.Random) -> dict[str, Any]:
    """Short times, so that all that a leader does now and then falls into a world; and messages so small that
    large DAGs come in parts. A submission has ended before it counts as broken off."""
    step_s = rng.choice((1, 10))
    return {
        "agents.load_interval_ms": rng.choice((300, 1_000)),
        "forecast.short_step_s": step_s,
        "forecast.medium_step_s": 2 * step_s,
        "limits.max_checkpoint_bytes": 4 << 10,
        "limits.max_message_bytes": rng.choice((16 << 10, 4 << 20)),
        "limits.max_payload_bytes": 4 << 10,
        "limits.max_result_bytes": 4 << 10,
        "retention.finished_age_s": rng.choice((1, 4, FOR_GOOD_S)),
        "retention.gone_agents_s": rng.choice((1, 4, FOR_GOOD_S)),
        "retention.staged_s": 9,
    }


def _links(rng: random.Random) -> dict[str, Any]:
    """Bounds for callers that a bad way meets: too many that have not said who they are, and too slow."""
    return {
        "max_unidentified_links": rng.choice((1, 2, 64)),
        "handshake_timeout_s": rng.choice((0.3, 2.0)),
        "connect_timeout_s": rng.choice((0.3, 2.0)),
    }


def _fault(rng: random.Random, plan: Plan, kind: str, at_s: float) -> Fault:
    how = KINDS[kind]
    amount = rng.uniform(*how.amount)
    if isinstance(how.amount[0], int):
        amount = float(round(amount))
    target = _target(rng, plan, how.strikes)
    return Fault(round(at_s, 4), kind, target, round(rng.uniform(*how.lasts_s), 4), round(amount, 4))


def _target(rng: random.Random, plan: Plan, strikes: str) -> str:
    if strikes == "leader":
        return "leader"
    if strikes == "cluster":
        return ""
    if strikes == "way":
        return ">".join(rng.sample(plan.node_ids, 2))
    if strikes == "link":
        node = rng.choice([*plan.node_ids, *["leader"] * _LEADERS])
        others = [*plan.node_ids, *plan.agent_ids, *plan.client_ids]
        return f"{node}>{rng.choice([other for other in others if other != node])}"
    nodes = [*plan.node_ids, *(["leader"] * _LEADERS), *(["newest"] if plan.spares else [])]
    candidates = {
        "node": nodes,
        "member": nodes,
        "disk": nodes,
        "agent": plan.agent_ids,
        "client": plan.client_ids,
    }
    return rng.choice(candidates[strikes])

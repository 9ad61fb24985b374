"""What agents wrote down as they did it: the witness that the coordinator's own record is held against."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from coordinator.cli.local_cluster import LocalCluster

Deeds = dict[tuple[str, str], set[tuple[int, str]]]
"""By (DAG id, task id) the (attempt, agent) pairs."""


class Effects(NamedTuple):
    """Attempts that really began, and attempts that really came to their end; `reborn` agents died, and came
    back as another process."""

    begun: Deeds
    ended: Deeds
    reborn: frozenset[str] = frozenset()


def effects_of(cluster: LocalCluster) -> Effects:
    """What all agents of a cluster have written down so far."""
    files = [cluster.effects(agent_id) for agent_id in cluster.agents]
    return read_effects(file for file in files if file.exists())


def read_effects(files: Iterable[Path]) -> Effects:
    """What these files hold; see `agent_sdk.Agent`, `effects_path`. A line that was cut off is of an agent
    that was killed before it had done, or reported, what it was about to write down."""
    effects = Effects(defaultdict(set), defaultdict(set))
    processes: defaultdict[str, set[int]] = defaultdict(set)
    for file in files:
        for line in file.read_text().splitlines():
            if not line.endswith("}"):
                continue
            effect = json.loads(line)
            deeds = effects.begun if effect["event"] == "start" else effects.ended
            deeds[effect["dag"], effect["task"]].add((effect["attempt"], effect["agent"]))
            processes[effect["agent"]].add(effect["pid"])
    return effects._replace(reborn=frozenset(agent for agent, of in processes.items() if len(of) > 1))

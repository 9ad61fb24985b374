"""Worlds of the simulator: real nodes, agents and clients on virtual time, without faults, and the same
seed giving the same trace byte for byte (A1-A5, the simulator's own promises)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from chaos.sim.batch import Totals, run_all
from chaos.sim.plan import Fault, Plan, draw
from chaos.sim.run import Result, run
from coordinator.core.commands import Command

ROOT = Path(__file__).parents[2]


def changing() -> Plan:
    """A world in which a node joins, another is wiped, one is lost and replaced, and the leader is removed,
    with a partition in between."""
    faults = (
        Fault(1.0, "member_add", lasts_s=0.3, amount=1),
        Fault(1.8, "both_ways", "n1>n3", lasts_s=0.5),
        Fault(2.2, "member_wipe", "n1", lasts_s=0.4),
        Fault(3.6, "member_replace", "n2", lasts_s=0.2, amount=1),
        Fault(5.0, "member_remove", "leader"),
    )
    return msgspec.structs.replace(draw(1), nodes=3, spares=2, faults=faults)


def test_without_faults_everything_submitted_comes_to_its_end() -> None:
    plan = msgspec.structs.replace(draw(1), faults=(), clients=2, pause_s=0.4)
    result = run(plan)
    assert result.violations == []
    assert result.events["elections_won"] == 1
    assert result.events["attempts_begun"] > result.events["dags_acknowledged"] > 10


def test_nodes_come_and_go_and_every_promise_holds() -> None:
    """A3: each change comes about, the configuration that stands in the end has a leader and everything."""
    result = run(changing(), keep_trace=True)
    assert result.violations == []
    assert set(result.faults) == {fault.kind for fault in changing().faults}
    assert result.events["configurations"] >= 10, "of each change, with folders bound and learners promoted"
    assert any("stops: REMOVED" in line for line in result.last_events)


KINDS_OF_COMMANDS = {kind.__name__ for kind in get_args(Command)}
SEEDS = (32, 52, 64, *range(1, 20))
"""Some of these bring about all kinds of commands together: mostly the first few, but which they are changes
with the product."""


def governed(seed: int) -> Plan:
    """A world in which large DAGs come in parts, nothing is kept for long, and agents go for good."""
    plan = draw(seed)
    settings = {
        "limits.max_message_bytes": 16 << 10,
        "agents.load_interval_ms": 200,
        "retention.finished_age_s": 1,
        "retention.gone_agents_s": 1,
    }
    faults = (
        Fault(1.0, "moves", "leader", amount=40),
        Fault(1.5, "agent_lost", "a1", lasts_s=0.1),
        Fault(2.0, "agent_kill", "a2", amount=1, lasts_s=0.2),
    )
    return msgspec.structs.replace(
        plan,
        nodes=3,
        spares=0,
        agents=4,
        clients=1,
        pause_s=0.15,
        faults=faults,
        settings=plan.settings | settings,
    )


@pytest.mark.timeout(300)
def test_every_kind_of_command_is_applied_and_every_promise_holds() -> None:
    """Namespaces that are governed, agents that change, DAGs that come in parts and end in steps, all that is
    forgotten (C9, D8, E4, F2): nothing that a leader or a user may ask for is left out of the worlds."""
    missing = set(KINDS_OF_COMMANDS)
    for seed in SEEDS:
        result = run(governed(seed))
        assert result.violations == []
        missing -= {name for name in KINDS_OF_COMMANDS if result.events.get(f"commands_{name}")}
        if not missing:
            return
    assert missing == set()


def moving() -> Plan:
    """A world whose leader moves work all the time, and is lost in between with an agent."""
    moves = tuple(Fault(0.8 + at, "moves", "leader", amount=40) for at in range(5))
    faults = (
        *moves,
        Fault(2.0, "kill", "leader", lasts_s=0.2),
        *(Fault(2.5 + at, "agent_kill", f"a{1 + at}", lasts_s=0.2) for at in range(4)),
        Fault(3.5, "agent_cut", "a2", lasts_s=0.5),
    )
    plan = msgspec.structs.replace(draw(1), nodes=3, agents=4, clients=2, pause_s=0.3, faults=faults)
    return msgspec.structs.replace(plan, faults=tuple(sorted(faults, key=lambda fault: fault.at_s)))


def test_work_is_moved_and_every_promise_holds() -> None:
    """E4, E8, F2, F3, F5: second attempts, recalls and preemptions, whatever they cross."""
    result = run(moving())
    assert result.violations == []
    for outcome in ("superseded", "rescheduled", "preempted", "lost"):
        assert result.events[f"attempts_{outcome}"] > 0, outcome


@pytest.mark.parametrize("world", ["draw(4)", "changing()"])
def test_the_same_seed_gives_the_same_trace_in_every_process(world: str) -> None:
    digests = {_digest(world, hash_seed) for hash_seed in ("0", "1", "2")}
    assert len(digests) == 1


def test_a_world_among_others_is_the_one_that_it_is_alone() -> None:
    totals = Totals()
    results: list[Result] = []
    run_all((7,), 2, totals, results.append)
    (result,) = results
    alone = run(draw(7))
    assert (result.digest, result.steps, result.violations) == (alone.digest, alone.steps, [])
    assert (totals.seeds, totals.faults) == (1, alone.faults)


def _digest(world: str, hash_seed: str) -> str:
    program = f"from tests.simulation.test_worlds import *; print(run({world}).digest)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout

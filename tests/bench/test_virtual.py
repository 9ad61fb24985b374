"""The real machine and scheduler on virtual time: what they do can be, and comes out the same again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.placement.instances import Instance, instance_of
from bench.placement.platform import Platform, Reality
from bench.placement.schedules import Problem, lower_bound, violations
from bench.placement.virtual import Stalled, VirtualCluster
from bench.placement.workload import LONGEST_MS, workload_of
from coordinator.core.model import AgentSpec, DataItem
from coordinator.scheduling.costs.weights import BALANCED, FAST, Policy
from tests.bench.graphs import instances


@settings(max_examples=25, deadline=None)
@given(instances(), st.integers(1, 4), st.sampled_from([FAST, BALANCED]), st.booleans(), st.integers(0, 9))
def test_what_comes_of_a_run_can_be(
    instance: Instance, agents: int, policy: Policy, stated: bool, seed: int
) -> None:
    platform = Platform.of(agents)
    reality = Reality.noisy(instance.work, platform.speeds, seed)
    real = Problem.of(instance, reality.work, reality.speeds, platform.bandwidth)
    run, again = (
        VirtualCluster.of(instance, platform, reality, policy, stated=stated).run() for _ in range(2)
    )
    assert violations(real, run.schedule) == []
    assert run.schedule.makespan >= lower_bound(instance, reality.work, reality.speeds) * (1 - 1e-9)
    assert run.begun >= len(instance)
    assert run == again


def test_inputs_move_unless_the_predecessor_ran_there() -> None:
    instance = instance_of("x-1", work=[1.0, 1.0], depends=[(), (0,)], edge_bytes=[(), (10**9,)])
    platform = Platform(np.array([1.0, 1.0]), 1e9)
    reality = Reality(instance.work, platform.speeds)
    run = VirtualCluster.of(instance, platform, reality, FAST, stated=True).run()
    assert run.schedule.agent[0] == run.schedule.agent[1]
    assert run.schedule.makespan == pytest.approx(2.0)


def test_a_leader_looks_at_what_runs_while_nothing_happens() -> None:
    instance = instance_of("x-1", work=[100.0], depends=[()], edge_bytes=[()])
    platform = Platform(np.array([1.0, 0.9]), 1e9)
    reality = Reality(instance.work, np.array([0.01, 0.9]))
    run = VirtualCluster.of(instance, platform, reality, BALANCED, stated=True).run()
    assert (run.begun, run.schedule.agent) == (2, [1])
    assert 150.0 < run.schedule.makespan < 1_000.0, "once it has lasted for half as long again"


def test_a_client_says_what_it_knows_and_what_moves() -> None:
    instance = instance_of(
        "x-1",
        work=[0.0, 2.5, 1.0],
        depends=[(), (0,), (0, 1)],
        edge_bytes=[(), (7,), (0, 9)],
        types=["a", "", "a"],
    )
    block = workload_of(instance, stated=True).block
    assert block.expected_ms == [1, 2_500, 1_000]
    assert workload_of(instance, stated=False).block.expected_ms == [0, 0, 0]
    assert [one.type for one in workload_of(instance, stated=True).profiles] == ["a", "task"]
    assert block.profiles == [0, 1, 0]
    assert block.extras[0].outputs == block.extras[1].inputs == (DataItem("0>1", 7),)
    assert block.extras[2].inputs == (DataItem("1>2", 9),)
    assert all(one.timeout_ms == LONGEST_MS for one in workload_of(instance, stated=True).profiles)


def test_a_workflow_that_no_agent_can_take_is_said_to_stall() -> None:
    instance = instance_of("x-1", work=[1.0], depends=[()], edge_bytes=[()])
    problem = Problem.of(instance, instance.work, np.ones(1), 1e9)
    choosy = AgentSpec("agent-0", "virtual", 1, 1, task_types=("other",))
    cluster = VirtualCluster(problem, workload_of(instance, stated=True), [choosy], FAST)
    with pytest.raises(Stalled, match="1 tasks wait"):
        cluster.run()

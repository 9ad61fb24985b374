"""Runs on virtual time: plans under noise and the online policies, by example and against what any schedule
must keep to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.placement.baselines import POLICIES, Policy, simulate
from bench.placement.execute import execute
from bench.placement.heft import heft
from bench.placement.instances import Instance
from bench.placement.planners import PLANNERS
from bench.placement.platform import Platform, Reality
from bench.placement.schedules import Problem, Schedule, lower_bound, violations
from tests.bench.graphs import PAPER_COSTS, PAPER_EDGES, instances, problem_of


@pytest.mark.parametrize("name", PLANNERS)
def test_a_plan_without_surprises_runs_as_planned(name: str) -> None:
    problem = problem_of(PAPER_COSTS, PAPER_EDGES)
    plan = PLANNERS[name](problem)
    assert execute(plan, problem) == plan


def test_a_plan_keeps_its_agents_and_order_when_a_task_is_late() -> None:
    plan = Schedule([0, 0, 1], [0.0, 1.0, 2.0], [1.0, 2.0, 3.0])
    real = problem_of([(5, 5), (1, 1), (1, 1)], {(0, 2): 1})
    assert execute(plan, real) == Schedule([0, 0, 1], [0.0, 5.0, 6.0], [5.0, 6.0, 7.0])


@given(instances(), st.integers(1, 5), st.integers(0, 99))
def test_a_plan_under_noise_can_be(instance: Instance, agents: int, seed: int) -> None:
    platform = Platform.of(agents)
    reality = Reality.noisy(instance.work, platform.speeds, seed)
    real = Problem.of(instance, reality.work, reality.speeds, platform.bandwidth)
    run = execute(heft(Problem.of(instance, instance.work, platform.speeds, platform.bandwidth)), real)
    assert violations(real, run) == []
    assert run.makespan >= lower_bound(instance, reality.work, reality.speeds) * (1 - 1e-9)


@pytest.mark.parametrize("name", POLICIES)
@given(instance=instances(), agents=st.integers(1, 5), seed=st.integers(0, 99))
def test_what_a_policy_does_can_be(name: str, instance: Instance, agents: int, seed: int) -> None:
    platform = Platform.of(agents)
    problem = Problem.of(instance, instance.work, platform.speeds, platform.bandwidth)
    run = simulate(problem, POLICIES[name], platform.speeds, seed)
    assert violations(problem, run) == []
    assert run.makespan >= lower_bound(instance, instance.work, platform.speeds) * (1 - 1e-9)
    assert run == simulate(problem, POLICIES[name], platform.speeds, seed)


def test_fifo_gives_the_oldest_task_to_the_fastest_idle_agent() -> None:
    problem = problem_of([(4, 2, 8), (4, 2, 8), (4, 2, 8)], {})
    run = simulate(problem, POLICIES["fifo_pull"], np.array([1.0, 2.0, 0.5]), 1)
    assert run.agent == [1, 0, 2]


def test_least_loaded_counts_tasks_and_not_their_length() -> None:
    problem = problem_of([(9, 9), (1, 1), (1, 1), (1, 1)], {})
    run = simulate(problem, POLICIES["least_loaded"], np.ones(2), 1)
    assert sorted(run.agent) == [0, 0, 1, 1]
    assert run.makespan == 10


def test_an_idle_agent_steals_the_last_of_the_longest_queue() -> None:
    first_agent = Policy(choose=lambda loads, chance: 0, steals=True)
    problem = problem_of([(2, 9), (2, 9), (2, 9), (2, 9)], {})
    run = simulate(problem, first_agent, np.ones(2), 1)
    assert run.agent.count(1) == 1
    assert run.start[run.agent.index(1)] == 0
    assert run.makespan == 9


def test_the_data_of_a_bound_task_travels_while_it_waits_and_that_of_a_stolen_one_anew() -> None:
    # Task 0 on agent 0 writes what 1 and 2 read; both wait at agent 1.
    def choose(loads: object, chance: object) -> int:
        return next(turns)

    problem = problem_of([(1, 1, 1), (5, 5, 5), (5, 5, 5)], {(0, 1): 2, (0, 2): 2})
    turns = iter([0, 1, 1])
    patient = simulate(problem, Policy(choose), np.ones(3), 1)
    # The second does not wait for its data: that came while the first ran.
    assert patient == Schedule([0, 1, 1], [0.0, 3.0, 8.0], [1.0, 8.0, 13.0])
    turns = iter([0, 1, 1])
    stolen = simulate(problem, Policy(choose, steals=True, fastest_first=True), np.array([1.0, 9.0, 2.0]), 1)
    assert stolen == Schedule([0, 1, 2], [0.0, 3.0, 3.0], [1.0, 8.0, 8.0])


def test_noise_is_of_mean_one_and_comes_again_with_its_seed() -> None:
    work, speeds = np.full(20_000, 2.0), np.full(20_000, 0.5)
    one, again, other = (Reality.noisy(work, speeds, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.work, again.work)
    assert np.array_equal(one.speeds, again.speeds)
    assert not np.array_equal(one.work, other.work)
    assert one.work.mean() == pytest.approx(2.0, rel=0.02)
    assert one.speeds.mean() == pytest.approx(0.5, rel=0.02)
    assert np.log(one.work / 2).std() == pytest.approx(0.3, rel=0.02)


def test_speeds_are_spread_evenly_on_a_log_scale() -> None:
    speeds = Platform.of(20).speeds
    assert not np.array_equal(speeds, np.sort(speeds))
    assert (speeds.min(), speeds.max()) == pytest.approx((0.5, 2.0))
    assert np.ptp(np.diff(np.log(np.sort(speeds)))) < 1e-12

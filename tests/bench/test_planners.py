"""The static planners against the figures of papers, of the recorded workflows, and against what any schedule
must keep to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.placement.heft import heft, upward_ranks
from bench.placement.instances import Instance, read_instance
from bench.placement.peft import optimistic_costs
from bench.placement.planners import PLANNERS
from bench.placement.platform import Platform
from bench.placement.schedules import Problem, Schedule, lower_bound, violations
from tests.bench.graphs import PAPER_COSTS, PAPER_EDGES, instances, problem_of

PUBLISHED = [
    ("srasearch-chameleon-10a-003", 1.000),
    ("hic-dirt02-001", 1.011),
    ("epigenomics-chameleon-hep-1seq-100k-001", 1.255),
    ("1000genome-chameleon-2ch-100k-001", 1.604),
    ("montage-chameleon-2mass-01d-001", 1.489),
    ("soykb-chameleon-10fastq-20ch-001", 1.133),
    ("rnaseq-dirt02-001", 1.004),
    ("cycles-chameleon-5l-1c-9p-001", 1.026),
    ("bwa-chameleon-large-001", 1.629),
    ("montage-chameleon-dss-15d-001", 1.012),
]


@pytest.fixture
def paper() -> Problem:
    return problem_of(PAPER_COSTS, PAPER_EDGES)


def test_upward_ranks_are_those_of_the_paper(paper: Problem) -> None:
    expected = [108.000, 77.000, 80.000, 80.000, 69.000, 63.333, 42.667, 35.667, 44.333, 14.667]
    assert upward_ranks(paper) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize(("name", "makespan"), [("heft", 80), ("cpop", 86)])
def test_makespans_are_those_of_the_paper(paper: Problem, name: str, makespan: float) -> None:
    schedule = PLANNERS[name](paper)
    assert schedule.makespan == makespan
    assert violations(paper, schedule) == []


def test_heft_inserts_into_a_gap() -> None:
    # The middle of the chain is dear on agent 0, which is idle from 2 until its result is back at 8.
    problem = problem_of([(2, 9), (9, 2), (2, 9), (1, 9)], {(0, 1): 2, (1, 2): 2})
    schedule = heft(problem)
    assert (schedule.agent[3], schedule.start[3], schedule.finish[3]) == (0, 2, 3)
    assert schedule.start[2] == 8


def test_cpop_keeps_the_critical_path_on_one_agent() -> None:
    problem = problem_of([(4, 1), (1, 4), (4, 1), (1, 1)], {(0, 1): 1, (1, 2): 1, (0, 3): 0})
    # 9 seconds on agent 0, 6 on agent 1: the path stays there, though its middle would end sooner elsewhere.
    assert PLANNERS["cpop"](problem).agent[:3] == [1, 1, 1]


@pytest.mark.parametrize(("name", "first", "makespan"), [("minmin", 0, 12), ("maxmin", 2, 10)])
def test_minmin_begins_with_short_tasks_and_maxmin_with_long(name: str, first: int, makespan: float) -> None:
    problem = problem_of([(2, 2), (4, 4), (10, 10)], {})
    schedule = PLANNERS[name](problem)
    assert schedule.start[first] == 0
    assert schedule.makespan == makespan


@given(instances(), st.integers(1, 4))
def test_optimistic_costs_are_those_of_their_definition(instance: Instance, agents: int) -> None:
    platform = Platform.of(agents)
    problem = Problem.of(instance, instance.work, platform.speeds, platform.bandwidth)
    table = optimistic_costs(problem)

    def cost(task: int, agent: int) -> float:
        return max(
            (
                min(
                    float(table[child, other] + problem.costs[child, other])
                    + (seconds if other != agent else 0.0)
                    for other in range(agents)
                )
                for child, seconds in problem.after[task]
            ),
            default=0.0,
        )

    expected = [[cost(task, agent) for agent in range(agents)] for task in range(len(instance))]
    np.testing.assert_allclose(table, expected)


@pytest.mark.parametrize("name", PLANNERS)
@given(instance=instances(), agents=st.integers(1, 5))
def test_every_schedule_can_be_and_none_is_shorter_than_the_bound(
    name: str, instance: Instance, agents: int
) -> None:
    platform = Platform.of(agents)
    problem = Problem.of(instance, instance.work, platform.speeds, platform.bandwidth)
    schedule = PLANNERS[name](problem)
    assert violations(problem, schedule) == []
    bound = lower_bound(instance, instance.work, platform.speeds)
    assert schedule.makespan >= bound * (1 - 1e-9)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"agent": [0, 0, 0]}, "before task 0 has ended"),
        ({"start": [0.0, 0.0, 2.0]}, "task 2 runs 2.0 .. 4.0"),
        ({"start": [0.0, 0.0, 2.0], "finish": [2.0, 3.0, 3.0]}, "before its data of task 0 at 3.0"),
        ({"start": [-1.0, 0.0, 3.0], "finish": [1.0, 3.0, 4.0]}, "task 0 runs -1.0"),
    ],
)
def test_what_is_wrong_with_a_schedule_is_found(change: dict[str, list[float]], complaint: str) -> None:
    problem = problem_of([(2, 2), (3, 3), (1, 1)], {(0, 2): 1})
    columns = {"agent": [0, 1, 1], "start": [0.0, 0.0, 3.0], "finish": [2.0, 3.0, 4.0]}
    assert violations(problem, Schedule(**columns)) == []  # type: ignore[arg-type]
    found = violations(problem, Schedule(**{**columns, **change}))  # type: ignore[arg-type]
    assert any(complaint in line for line in found), found


@pytest.mark.parametrize(("name", "ratio"), PUBLISHED)
def test_heft_has_the_published_ratios_to_the_lower_bound(data: Path, name: str, ratio: float) -> None:
    instance = read_instance(data / "wfinstances" / f"{name}.json")
    platform = Platform.of(20)
    problem = Problem.of(instance, instance.work, platform.speeds, platform.bandwidth)
    schedule = heft(problem)
    assert violations(problem, schedule) == []
    assert round(schedule.makespan / lower_bound(instance, instance.work, platform.speeds), 3) == ratio

"""What tasks read, where clients say that and not what tasks take: it counts at once, and as far as ends bear
it out (E5)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.kinds import Kind, kind_of, read_log2
from coordinator.core.model import AgentSpec, DataItem, TaskFamily, TaskProfile
from coordinator.scheduling.agents.table import AgentTable
from coordinator.scheduling.learning.estimates import Estimates
from coordinator.scheduling.learning.reads import PRIOR, STEEPEST, UNIT, Reads, Slope
from coordinator.scheduling.plans.crowd import crowd_of
from coordinator.scheduling.plans.turns import Line
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.waiting import WaitingTask

ANY = TaskFamily.UNSPECIFIED
PROFILE = TaskProfile("t")
MEGABYTE = 1_000_000
SPEEDS = {"a": 1.0, "b": 0.5, "c": 2.0}


def hint_of(size_bytes: int) -> int:
    return -read_log2([DataItem("x", size_bytes)])


KIND = kind_of(PROFILE, hint_of(MEGABYTE))


def learner() -> Estimates:
    agents = AgentTable()
    for name in SPEEDS:
        agents.put(AgentSpec(name, "i", 1, 10), 1)
    return Estimates(agents)


def teach(
    estimates: Estimates, seconds_of: Callable[[float], float], ends: int = 60, noise: float = 0.1
) -> None:
    """Ends of tasks that read 1 to 100 megabytes, on agents that are not as fast as they say."""
    chance = random.Random(1)
    for at in range(ends):
        megabytes = 100 ** chance.random()
        agent = list(SPEEDS)[at % len(SPEEDS)]
        took = seconds_of(megabytes) * math.exp(chance.gauss(0.0, noise)) / SPEEDS[agent]
        estimates.observe(KIND, at % 7, agent, took, hint_of(round(megabytes * MEGABYTE)))
        estimates.renew()
    while estimates.renew():
        pass


def expected(estimates: Estimates, megabytes: float) -> float:
    """Of a DAG of which nothing has ended."""
    return estimates.work_s(KIND, 99, hint_of(round(megabytes * MEGABYTE)))


def test_the_hint_of_a_task_is_what_its_client_says() -> None:
    assert Kind("t", "", ANY, False, True) == KIND
    assert kind_of(PROFILE, 1) == Kind("t", "", ANY, True)
    assert kind_of(PROFILE, 0) == Kind("t", "", ANY, False)
    assert read_log2([]) == read_log2([DataItem("x")]) == 0
    assert read_log2([DataItem("x", 3), DataItem("y", 5)]) == read_log2([DataItem("z", 8)])
    assert read_log2([DataItem("x", 2**40)]) * UNIT == pytest.approx(40 * math.log(2), abs=0.01)


def test_who_reads_more_is_expected_to_take_longer_before_anything_has_ended() -> None:
    estimates = learner()
    typical, twice, large = expected(estimates, 1), expected(estimates, 2), expected(estimates, 100)
    assert twice / typical == pytest.approx(2**PRIOR.mean, rel=0.02)
    near, far = (estimates.work(KIND, 99, hint_of(size * MEGABYTE)) for size in (1, 100))
    assert not near.known
    assert far.sigma > near.sigma, "nobody knows yet how much it makes"
    assert far.seconds == pytest.approx(large)


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0, 2.0])
def test_how_much_it_makes_is_learned_from_ends(slope: float) -> None:
    estimates = learner()
    teach(estimates, lambda megabytes: 3.0 * megabytes**slope)
    for megabytes in (1, 10, 100):
        assert expected(estimates, megabytes) == pytest.approx(3.0 * megabytes**slope, rel=0.35)
    speeds = [estimates.pace(KIND, row) for row in range(3)]
    assert [speed / speeds[0] for speed in speeds] == pytest.approx([1.0, 0.5, 2.0], rel=0.2)


def test_agents_with_the_large_tasks_are_not_taken_to_be_slow() -> None:
    estimates = learner()
    chance = random.Random(2)
    for at in range(40):
        agent, megabytes = ("a", 50 + at) if at % 2 else ("b", 1 + at % 3)
        took = megabytes * math.exp(chance.gauss(0.0, 0.1))
        estimates.observe(KIND, 1, agent, took, hint_of(megabytes * MEGABYTE))
        estimates.renew()
    assert estimates.pace(KIND, 0) == pytest.approx(estimates.pace(KIND, 1), rel=0.25)


def test_what_agents_have_taught_stays_when_they_leave() -> None:
    estimates = learner()
    teach(estimates, lambda megabytes: 3.0 * megabytes**1.5)
    before = [expected(estimates, megabytes) for megabytes in (1, 10, 100)]
    for row in (1, 2):
        estimates.forget_row(row)
    estimates.observe(KIND, 1, "a", 3.0, hint_of(MEGABYTE))
    while estimates.renew():
        pass
    assert [expected(estimates, one) for one in (1, 10, 100)] == pytest.approx(before, rel=0.3)


@given(
    st.lists(st.tuples(st.floats(0, 30), st.floats(-5, 5)), min_size=1, max_size=20),
    st.floats(0.01, 4.0),
    st.integers(0, 20),
)
def test_ends_that_are_remembered_count_as_if_they_were_seen(
    ends: list[tuple[float, float]], noise: float, here: int
) -> None:
    """Of agents that are here and of some that are gone, in any parts."""
    read, work = (np.array(column) for column in zip(*ends, strict=True))
    sums = np.array([np.ones(len(read)), work, work**2])
    reads = np.array([read, read**2, read * work])
    together, parted = Reads(1, typical=10.0), Reads(1, typical=10.0)
    seen = sums.sum(axis=1, keepdims=True)
    together.sums = together.centred(seen[0], seen[1], reads.sum(axis=1, keepdims=True))
    together.renew(seen, np.zeros(1), noise)
    first, rest = (slice(None, min(here, len(read))), slice(min(here, len(read)), None))
    seen = sums[:, first].sum(axis=1, keepdims=True)
    parted.sums = parted.centred(seen[0], seen[1], reads[:, first].sum(axis=1, keepdims=True))
    parted.absorb(sums[:, rest].sum(axis=1, keepdims=True), reads[:, rest].sum(axis=1, keepdims=True), noise)
    parted.renew(seen, np.zeros(1), noise)
    assert parted.slope == pytest.approx(together.slope, rel=1e-6, abs=1e-6)
    assert 0 < together.slope.variance <= PRIOR.variance


@given(st.floats(1e-3, 0.2), st.floats(-20, 20), st.integers(1, 10_000))
def test_sizes_that_are_nearly_alike_make_no_steep_slope(apart: float, work: float, ends: int) -> None:
    """Whatever agents claim, what is expected of a much larger task stays a number."""
    reads = Reads(1, typical=0.0)
    reads.sums = np.array([[apart], [apart**2], [apart * work]]) * ends
    reads.renew(np.array([[2.0], [work], [work**2]]) * ends, np.zeros(1), 4e-4)
    assert abs(reads.slope.mean) <= STEEPEST
    assert math.isfinite(math.exp(reads.slope.makes(50.0)))


def test_without_any_spread_the_prior_stands() -> None:
    estimates = learner()
    for _ in range(20):
        estimates.observe(KIND, 1, "a", 5.0, hint_of(MEGABYTE))
        estimates.renew()
    assert expected(estimates, 1) == pytest.approx(5.0, rel=0.1)
    assert expected(estimates, 2) / expected(estimates, 1) == pytest.approx(2**PRIOR.mean, rel=0.02)


@given(st.floats(0, 40), st.floats(0, 40), st.floats(-3, 3), st.floats(1e-6, 0.16))
def test_what_is_not_known_of_the_slope_bounds_what_it_makes(
    less: float, more: float, mean: float, variance: float
) -> None:
    slope = Slope(mean, variance)
    less, more = sorted((less, more))
    assert abs(slope.makes(less)) <= abs(slope.makes(more)) + 1e-9 <= abs(mean) / variance**0.5 + 1e-6
    assert slope.makes(-more) == pytest.approx(-slope.makes(more))
    assert Slope(mean, 0.0).makes(more) == pytest.approx(mean * more)


def test_rounds_of_many_tasks_expect_of_each_what_is_expected_of_it_alone() -> None:
    snapshot = Snapshot()
    for name in SPEEDS:
        snapshot.agents.put(AgentSpec(name, "i", 1, 10), 1)
    teach(snapshot.estimates, lambda megabytes: 2.0 * megabytes)
    hints = [0, 700, *(hint_of(MEGABYTE << at) for at in range(6)), 0, 30_000]
    for key, hint in enumerate(hints):
        snapshot.waiting.add(PROFILE, WaitingTask(0, key, hint=hint))
    columns = snapshot.waiting.columns
    crowd = crowd_of(snapshot, Line(np.arange(len(columns)), columns["count"]))
    assert sorted(crowd.keys.tolist()) == list(range(len(hints)))
    works = [snapshot.work_s(PROFILE, key, hints[key]) for key in crowd.keys.tolist()]
    assert crowd.work.tolist() == pytest.approx(works)
    brief = [snapshot.is_brief(PROFILE, key, hints[key]) for key in crowd.keys.tolist()]
    assert crowd.brief.tolist() == brief

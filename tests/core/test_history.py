"""What ends have taught, in the replicated state (D5, E5): the same integers on every node, bounded, and of
those ends alone that say something of their agent."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core import commands as c
from coordinator.core import history, invariants
from coordinator.core.history import FAILED_ONE, LONGEST_US, Ends, work_log2
from coordinator.core.kinds import Kind, decode_pair
from coordinator.core.limits import HISTORY_GONE_ENDS, HISTORY_WINDOW
from coordinator.core.logarithms import FRACTION_BITS, log2_fixed
from coordinator.core.model import (
    AttemptOutcome,
    DataItem,
    FamilyNeeds,
    Requirements,
    TaskExtras,
    TaskFamily,
    TaskProfile,
)
from coordinator.core.outcome import Outcome, Table

if TYPE_CHECKING:
    from tests.core.conftest import Driver

ONE = 1 << FRACTION_BITS
NOOP = Kind("noop", "", TaskFamily.UNSPECIFIED, False)

whole = st.integers(1, 10**40)
logarithms = st.integers(-60 * ONE, 60 * ONE)


# --- logarithms ---------------------------------------------------------------------------------------------


@given(whole)
def test_logarithms_are_right(number: int) -> None:
    assert abs(log2_fixed(number) / ONE - math.log2(number)) < 0.0015


@given(whole, whole)
def test_logarithms_keep_the_order_and_count_doublings_exactly(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert log2_fixed(low) <= log2_fixed(high)
    assert log2_fixed(2 * low) - log2_fixed(low) == ONE


def test_logarithms_are_what_they_were() -> None:
    """States of nodes that ran different versions would differ for ever."""
    assert [log2_fixed(number) for number in (1, 3, 1_000, 1_000_000, 2**80 + 1)] == [
        92, 103933, 653164, 1306229, 5242972,
    ]  # fmt: skip


@given(st.integers(0, LONGEST_US - 1), st.floats(), st.integers(-(2**63), 2**64))
def test_any_end_says_something(duration_us: int, speed: float, expected_ms: int) -> None:
    found = work_log2(duration_us, speed, expected_ms)
    assert abs(found) < 128 * ONE


@given(st.integers(1, LONGEST_US // 2), st.floats(1e-3, 1e3), st.integers(0, 2**40))
def test_twice_as_long_or_as_fast_is_twice_the_work(duration_us: int, speed: float, expected_ms: int) -> None:
    once = work_log2(duration_us, speed, expected_ms)
    assert work_log2(2 * duration_us, speed, expected_ms) - once == ONE
    assert work_log2(duration_us, 2 * speed, expected_ms) - once == pytest.approx(ONE, abs=200)
    basis_s = expected_ms / 1_000 or 1.0
    assert once / ONE == pytest.approx(math.log2(duration_us / 1e6 * speed / basis_s), abs=0.01)


# --- sums ---------------------------------------------------------------------------------------------------


@given(st.lists(logarithms, min_size=1, max_size=1_000))
def test_sums_are_those_of_a_window_that_fades(values: list[int]) -> None:
    ends = Ends()
    count = total = squares = 0.0
    for value in values:
        if count >= 3:
            mean = total / count
            value = min(max(value, round(mean - 7 * ONE)), round(mean + 7 * ONE))
        if count >= HISTORY_WINDOW:
            count, total, squares = (one * (1 - 1 / HISTORY_WINDOW) for one in (count, total, squares))
        count, total, squares = count + 1, total + value, squares + value * value
        ends.complete(value)
    assert ends.count == round(count)
    assert ends.total / ends.count == pytest.approx(total / count, abs=2)
    spread = ends.squares / ends.count - (ends.total / ends.count) ** 2
    assert spread == pytest.approx(squares / count - (total / count) ** 2, abs=1e-3 * ONE * ONE)


def test_the_spread_of_ends_that_are_alike_stays_none() -> None:
    ends = Ends()
    for _ in range(5_000):
        ends.complete(10 * ONE + 12_345)
    spread = ends.squares / ends.count - (ends.total / ends.count) ** 2
    assert abs(spread) / ONE / ONE < 1e-3


def test_an_end_that_is_out_of_all_proportion_counts_as_a_far_one() -> None:
    ends = Ends()
    for value in (0, 0, 0, 50 * ONE):
        ends.complete(value)
    assert ends.total == 7 * ONE
    ends.complete(-50 * ONE)
    assert ends.total == pytest.approx(7 * ONE / 4 - 7 * ONE + 7 * ONE, abs=4)


def test_failures_fade_to_nothing() -> None:
    ends = Ends()
    for _ in range(1_000):
        ends.fail()
    assert 250 * FAILED_ONE < ends.failed <= HISTORY_WINDOW * FAILED_ONE
    for _ in range(5_000):
        ends.complete(0)
    assert ends.failed == 0


@given(st.lists(st.tuples(st.integers(1, 256), logarithms), min_size=1, max_size=20))
def test_what_is_kept_of_the_forgotten_is_bounded(agents: list[tuple[int, int]]) -> None:
    unknown = Ends()
    for count, value in agents:
        unknown.absorb(Ends(0, count, count * value, count * value * value, 99))
        assert 0 < unknown.count <= HISTORY_GONE_ENDS
    values = [value for _, value in agents]
    assert min(values) - 20 <= unknown.total / unknown.count <= max(values) + 20
    assert unknown.failed == 0


# --- entries ------------------------------------------------------------------------------------------------


def end(
    node: Driver,
    *tasks: str,
    agent: str = "w0",
    outcome: AttemptOutcome = AttemptOutcome.COMPLETED,
    **report: object,
) -> Outcome:
    """The agent is given the tasks of DAG "d" and ends them, in one entry."""
    keys = [node.key("d", task) for task in tasks]
    node.apply(c.Assign([c.Choice(key, 1, agent, node.epoch(agent)) for key in keys]))
    reports = [
        c.AttemptReport(key, 1, c.ReportKind.ENDED, outcome, **report)  # type: ignore[arg-type]
        for key in keys
    ]
    return node.apply(c.Report(agent, node.epoch(agent), reports))


def rows(node: Driver) -> dict[tuple[str, str], Ends]:
    """The history, by agent and type."""
    return {(agent, kind.type): ends for (agent, kind), ends in node.state.history.rows.items()}


def test_an_entry_writes_a_pair_once(node: Driver) -> None:
    node.join("w0")
    node.submit("d", {"a": [], "b": [], "c": []})
    outcome = end(node, "a", "b", "c", duration_us=2_000_000)
    written = [write for write in outcome.writes if write.table is Table.ENDS]
    assert [decode_pair(write.key) for write in written] == [("w0", NOOP)]
    ends = rows(node)["w0", "noop"]
    assert (ends.count, ends.failed) == (3, 0)
    assert ends.total == pytest.approx(3 * ONE, abs=300)


def test_kinds_differ_by_type_variant_family_and_whether_the_client_says_what_it_expects(
    node: Driver,
) -> None:
    node.join("w0", credit=9, speed=2.0)
    model = TaskProfile("ask", TaskFamily.MODEL, Requirements(needs=FamilyNeeds(model="m", tool="ignored")))
    block = node.block({"a": [], "b": [], "c": []})
    block.profiles, block.expected_ms = [0, 1, 1], [0, 0, 500]
    header = node.submission("d", {}).header
    node.apply(c.SubmitDag("", header, [node.profile(), model], block))
    end(node, "a", "b", "c", duration_us=1_000_000)
    found = node.state.history.rows
    assert list(found) == [
        ("w0", NOOP),
        ("w0", Kind("ask", "m", TaskFamily.MODEL, False)),
        ("w0", Kind("ask", "m", TaskFamily.MODEL, True)),
    ]
    # A second on an agent of speed 2 is two seconds of work, four times what was expected.
    assert [round(ends.total / ONE, 2) for ends in found.values()] == [1, 1, 2]


def test_what_tasks_read_is_kept_beside_what_they_took_unless_clients_say_what_they_expect(
    node: Driver,
) -> None:
    node.join("w0", credit=9)
    block = node.block({"a": [], "b": [], "c": []})
    block.expected_ms = [0, 0, 500]
    sizes = {0: 1 << 20, 1: 1 << 30, 2: 1 << 30}
    block.extras = {at: TaskExtras(inputs=(DataItem("x", size),)) for at, size in sizes.items()}
    node.apply(c.SubmitDag("", node.submission("d", {}).header, [node.profile()], block))
    assert [node.task("d", task).hint for task in "abc"] == [-log2_fixed(1 << 20), -log2_fixed(1 << 30), 500]
    end(node, "a", "c", duration_us=1_000_000)
    end(node, "b", duration_us=4_000_000)
    stated, sized = node.state.history.rows.values()
    assert (stated.count, stated.read, stated.read_squares, stated.products) == (1, 0, 0, 0)
    works = [work_log2(seconds * 1_000_000, 1.0, 0) for seconds in (1, 4)]
    reads = [log2_fixed(1 << 20), log2_fixed(1 << 30)]
    assert (sized.count, sized.total, sized.read) == (2, sum(works), sum(reads))
    assert sized.read_squares == sum(read * read for read in reads)
    assert sized.products == sum(read * work for read, work in zip(reads, works, strict=True))


@given(st.lists(st.tuples(logarithms, st.integers(1, 50 * ONE)), min_size=1, max_size=1_000))
def test_what_was_read_fades_as_what_it_took_does(values: list[tuple[int, int]]) -> None:
    ends, alike = Ends(), Ends()
    for value, read in values:
        ends.complete(value, read)
        alike.complete(value, 1_000)
    assert (
        min(read for _, read in values) - 2 <= ends.read / ends.count <= max(read for _, read in values) + 2
    )
    assert alike.read == pytest.approx(1_000 * alike.count, abs=alike.count)
    assert alike.products == pytest.approx(1_000 * alike.total, abs=2_000 * alike.count)


@pytest.mark.parametrize(
    ("outcome", "report", "failed"),
    [
        (AttemptOutcome.FAILED, {}, 1),
        (AttemptOutcome.FAILED, {"retryable": False}, 0),
        (AttemptOutcome.REJECTED, {}, 0),
        (AttemptOutcome.CANCELLED, {"retryable": False}, 0),
        (AttemptOutcome.COMPLETED, {"duration_us": -1}, 0),
        (AttemptOutcome.COMPLETED, {"duration_us": LONGEST_US}, 0),
    ],
)
def test_what_agents_report_is_their_fault_if_another_attempt_may_go_better(
    node: Driver, outcome: AttemptOutcome, report: dict[str, object], failed: int
) -> None:
    node.join("w0")
    node.submit("d", {"a": []}, node.profile(max_attempts=3))
    effects = end(node, "a", outcome=outcome, **report).effects
    assert [ends.failed for ends in node.state.history.rows.values()] == [FAILED_ONE] * failed
    assert len(effects.failed) == failed


def lose(node: Driver) -> c.Command:
    return c.LoseAgents([("w0", node.epoch("w0"))], "silent")


def expire(node: Driver) -> c.Command:
    node.now_ms += 10**9
    return c.ExpireAttempts([(node.key("d", "a"), 1)])


def come_back(node: Driver) -> c.Command:
    return c.OpenSession(node.spec("w0"), [])


def say_goodbye(node: Driver) -> c.Command:
    return c.CloseSession("w0", node.epoch("w0"), True)


def take_away(node: Driver) -> c.Command:
    return c.RescheduleTask("", "d", "a")


def cancel(node: Driver) -> c.Command:
    return c.CancelTask("", "d", "a")


def preempt(node: Driver) -> c.Command:
    return c.Preempt([(node.key("d", "a"), 1)], "something urgent")


@pytest.mark.parametrize(
    ("happens", "started", "failed"),
    [
        (lose, True, 1),
        (lose, False, 0),
        (expire, True, 1),
        (come_back, True, 1),
        (come_back, False, 0),
        (say_goodbye, True, 0),
        (take_away, True, 0),
        (cancel, True, 0),
        (preempt, True, 0),
    ],
)
def test_what_ends_a_running_attempt_is_the_agents_fault_if_it_was_lost_or_too_slow(
    node: Driver, happens: Callable[[Driver], c.Command], started: bool, failed: int
) -> None:
    node.join("w0")
    node.submit("d", {"a": []}, node.profile(max_attempts=3, preemptible=True))
    key = node.key("d", "a")
    node.apply(c.Assign([c.Choice(key, 1, "w0", node.epoch("w0"))]))
    if started:
        begun = c.AttemptReport(key, 1, c.ReportKind.STARTED)
        node.apply(c.Report("w0", node.epoch("w0"), [begun]))
    effects = node.apply(happens(node)).effects
    assert [ends.failed for ends in node.state.history.rows.values()] == [FAILED_ONE] * failed
    assert effects.failed == [(key, "w0")] * failed


def test_the_pair_longest_without_an_end_makes_room(node: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "HISTORY_KEPT", 2)
    monkeypatch.setattr(invariants, "HISTORY_KEPT", 2)
    node.submit("d", {name: [] for name in "abcdef"})
    for agent, task in zip(("w0", "w1", "w0", "w2"), "abcd", strict=True):
        node.join(agent)
        end(node, task, agent=agent, duration_us=1)
    assert list(rows(node)) == [("w0", "noop"), ("w2", "noop")]
    assert [decode_pair(key)[0] for key in node.store.keys(Table.ENDS, end=b"\xff" * 99)] == ["w0", "w2"]
    assert rows(node)["w0", "noop"].count == 2


def test_the_history_of_an_agent_outlives_its_sessions_and_goes_to_all_when_it_is_forgotten(
    node: Driver,
) -> None:
    node.join("w0")
    node.join("w1")
    node.submit("d", {name: [] for name in "abcd"})
    end(node, "a", duration_us=1_000_000)
    end(node, "b", agent="w1", duration_us=4_000_000)
    node.join("w0", instance_id="another")
    node.do(c.CloseSession("w0", node.epoch("w0"), True))
    assert list(rows(node)) == [("w0", "noop"), ("w1", "noop")]
    node.do(c.ForgetAgents([("w0", node.epoch("w0")), ("w0", node.epoch("w0"))]))
    assert list(rows(node)) == [("w1", "noop"), ("", "noop")]
    assert rows(node)["", "noop"].count == 1
    node.do(c.CloseSession("w1", node.epoch("w1"), True))
    node.do(c.ForgetAgents([("w1", node.epoch("w1"))]))
    assert list(rows(node)) == [("", "noop")]
    assert rows(node)["", "noop"].total == pytest.approx(2 * ONE, abs=300)
    node.join("w0")
    end(node, "c", duration_us=1_000_000)
    assert rows(node)["w0", "noop"].count == 1


def test_entries_of_the_version_before_do_what_they_did_there(
    node: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that carries them out after an upgrade has the digest of those that did before."""
    monkeypatch.setattr(c, "FORMAT", c.FIRST_FORMAT)
    node.join("w0")
    node.submit("d", {"a": [], "b": []}, node.profile(max_attempts=2))
    sequence = node.state.machine.sequence
    end(node, "a", duration_us=1_000_000)
    end(node, "b", outcome=AttemptOutcome.FAILED)
    assert node.store.keys(Table.ENDS, end=b"\xff" * 99) == []
    assert not node.state.history.rows
    assert node.state.machine.sequence == sequence


def test_entries_of_the_version_before_know_nothing_of_what_tasks_read(
    node: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(c, "FORMAT", c.LEARNING_FORMAT)
    node.join("w0")
    block = node.block({"a": []})
    block.extras = {0: TaskExtras(inputs=(DataItem("x", 1 << 20),))}
    node.apply(c.SubmitDag("", node.submission("d", {}).header, [node.profile()], block))
    end(node, "a", duration_us=1_000_000)
    (pair,) = node.state.history.rows
    assert pair == ("w0", NOOP)
    assert node.state.history.rows[pair].read == 0

"""From reports to who takes nothing new (D2, D4), over rows that come, go and are reused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from coordinator.core.model import AgentLoad, AgentSpec, Resources, TaskProfile
from coordinator.scheduling.agents.feasibility import REASONS_SHOWN
from coordinator.scheduling.agents.table import AgentTable
from coordinator.scheduling.explain import explain
from coordinator.scheduling.load.measured import LEAST_BANDWIDTH_BPS, Measured
from coordinator.scheduling.load.overload import LoadView, Overload
from coordinator.scheduling.load.settings import LoadSettings
from coordinator.scheduling.snapshot import Snapshot

SpecOf = Callable[..., AgentSpec]
FULL = AgentLoad(cpu=0.3, memory=0.99)


def judging(settings: LoadSettings | None = None) -> tuple[AgentTable, Overload]:
    table = AgentTable()
    return table, Overload(table, Measured(table), settings or LoadSettings())


def test_an_agent_without_memory_is_overloaded_until_it_has_some(spec_of: SpecOf) -> None:
    table, overload = judging()
    for agent_id in ("a", "b", "new"):
        table.put(spec_of(agent_id), epoch=1)
    overload.record("a", FULL)
    overload.record("b", AgentLoad(cpu=1.0, memory=0.5))
    assert overload.refusing("a") == ""
    assert overload.judge() == ["a"]
    assert overload.refusing("a") == "overloaded: load 0.99 of 0.95, until it is below 0.85"
    assert (overload.refusing("b"), overload.refusing("new"), overload.refusing("nobody")) == ("", "", "")
    assert overload.view("a").overloaded
    assert overload.view("new") == overload.view("nobody") == LoadView()
    overload.record("a", AgentLoad(memory=0.9))
    assert overload.judge() == ["a"]
    assert overload.refusing("a").startswith("overloaded: load 0.90")
    overload.record("a", AgentLoad(memory=0.901))
    assert overload.judge() == [], "nothing to be told anew"
    overload.record("a", AgentLoad(memory=0.8))
    assert overload.judge() == ["a"]
    assert overload.refusing("a") == ""
    assert overload.judge() == []


def test_a_busy_cpu_alone_is_no_overload_unless_the_weights_say_so(spec_of: SpecOf) -> None:
    for weights, marked in (("", []), ("cpu=1", ["a"])):
        table, overload = judging(LoadSettings(weights=weights))
        for agent_id in ("a", "b"):
            table.put(spec_of(agent_id), epoch=1)
            overload.record(agent_id, AgentLoad(cpu=1.0 if agent_id == "a" else 0.1, memory=0.4))
        assert overload.judge() == marked


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, -0.5, 1.5])
def test_a_measurement_that_cannot_be_counts_as_full(spec_of: SpecOf, wrong: float) -> None:
    table, overload = judging(LoadSettings(max_share=1.0))
    table.put(spec_of("a"), epoch=1)
    overload.record("a", AgentLoad(memory=wrong))
    assert overload.judge() == ["a"]
    assert overload.view("a").load == 1.0


def test_a_row_s_next_agent_inherits_nothing(spec_of: SpecOf) -> None:
    table, overload = judging(LoadSettings(max_share=1.0))
    table.put(spec_of("a"), epoch=1)
    overload.record("a", FULL)
    overload.judge()
    overload.forget("a")
    overload.forget("nobody")
    table.remove("a")
    table.put(spec_of("b"), epoch=2)
    assert (table.rows["b"], overload.view("b")) == (0, LoadView())
    overload.record("b", AgentLoad(memory=0.9))
    assert overload.judge() == []


def test_rows_grow_with_the_table(spec_of: SpecOf) -> None:
    table, overload = judging()
    overload.forget("a0")
    for at in range(300):
        table.put(spec_of(f"a{at}"), epoch=1)
        overload.record(f"a{at}", AgentLoad(memory=1.0 if at % 3 == 0 else 0.1))
    overload.record("nobody", FULL)
    assert overload.judge() == [f"a{at}" for at in range(0, 300, 3)]


NETWORKS: list[tuple[int, list[dict[str, Any]], float]] = [
    (1_000, [{"net_sent_bps": 400, "net_received_bps": 500}], 0.5),
    (1_000, [{"net_received_bps": 5_000}], 1.0),
    (1_000, [{"packet_loss": 0.25}], 0.25),
    (0, [{"net_sent_bps": LEAST_BANDWIDTH_BPS // 2}], 0.5),
    (0, [{"net_sent_bps": 4 * LEAST_BANDWIDTH_BPS}, {"net_sent_bps": LEAST_BANDWIDTH_BPS}], 0.25),
]


@pytest.mark.parametrize(("declared", "reports", "share"), NETWORKS)
def test_the_network_is_a_share_of_what_is_declared_or_was_seen(
    spec_of: SpecOf, declared: int, reports: list[dict[str, Any]], share: float
) -> None:
    table, overload = judging()
    table.put(spec_of("a", resources=Resources(bandwidth_bps=declared)), epoch=1)
    for report in reports:
        overload.record("a", AgentLoad(**report))
    assert overload.view("a").network == pytest.approx(share)


def test_gpu_memory_and_queue_are_shares_of_what_the_agent_has(spec_of: SpecOf) -> None:
    table = AgentTable()
    measured = Measured(table)
    table.put(spec_of("a", slots=2, credit=6, resources=Resources(gpu_memory_bytes=100)), epoch=1)
    for free, used in ((25, 0.75), (0, 0.0), (1_000, 0.0)):
        measured.record("a", AgentLoad(gpu=0.5, gpu_memory_free_bytes=free, queued=3))
        loads = measured.loads()
        assert (loads.gpu.item(), loads.gpu_memory.item(), loads.queue.item()) == (0.5, used, 0.75)
    table.put(spec_of("a", slots=2, credit=2), epoch=2)
    measured.record("a", AgentLoad(gpu_memory_free_bytes=5, queued=3))
    assert (measured.loads().gpu_memory.item(), measured.loads().queue.item()) == (0.0, 0.0)


def test_an_explanation_does_not_grow_with_the_agents(crew: Callable[..., Snapshot]) -> None:
    snapshot = crew(**{f"a{at}": {} for at in range(20)})
    for at in range(20):
        agents = snapshot.agents
        agents.put(agents.specs[at], epoch=1, refusing=f"overloaded: load {at:02}")  # type: ignore[arg-type]
    (refusal,) = explain(TaskProfile("t"), snapshot).refusals
    assert refusal.detail.count("overloaded") == REASONS_SHOWN
    assert refusal.detail.endswith(f", {20 - REASONS_SHOWN} more reasons")

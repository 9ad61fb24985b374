"""What an agent says of its load (D2): smoothed by the time that a figure stands for, told when it changes,
and never broken by what the program's own gauges say."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_sdk import Agent, _load
from agent_sdk._gauges import COMPLAINTS_KEPT, GaugeReader
from agent_sdk._load import REFRESH_S, SMOOTHING_S, LoadMeter, Reading, Smoother
from quorumflow_proto.v1 import agent_pb2
from tests.sdk.conftest import Launch
from tests.sdk.scripted import Node


class Machine:
    """A machine and its clock, both the test's."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.reading = Reading(cpu=0.5, memory=0.25)
        self.gauges: dict[str, Any] = {}

    def meter(self, **options: Any) -> LoadMeter:
        return LoadMeter(lambda: self.gauges, read=lambda: self.reading, now_s=lambda: self.now_s, **options)

    def passes(self, seconds: float, **reading: Any) -> None:
        self.now_s += seconds
        self.reading = Reading(**{"cpu": 0.5, "memory": 0.25, **reading})


def test_the_first_sample_passes_and_later_ones_weigh_by_their_time() -> None:
    machine = Machine()
    meter = machine.meter()
    machine.passes(1.0, cpu=1.0)
    assert meter.sample(0, 0).cpu == 1.0
    machine.passes(SMOOTHING_S, cpu=0.0)
    assert meter.sample(0, 0).cpu == pytest.approx(math.exp(-1))
    machine.passes(0.0, cpu=1.0)
    assert meter.sample(0, 0).cpu == pytest.approx(math.exp(-1))
    machine.passes(100 * SMOOTHING_S, cpu=0.75)
    assert meter.sample(0, 0).cpu == pytest.approx(0.75)


@given(st.lists(st.floats(0.001, 20), min_size=1, max_size=20))
def test_a_mean_does_not_depend_on_how_often_it_was_measured(pauses: list[float]) -> None:
    often, once = Smoother(SMOOTHING_S), Smoother(SMOOTHING_S)
    for smoother in (often, once):
        smoother.add(1.0, {"cpu": 0.0})
    for pause in pauses:
        often.add(pause, {"cpu": 1.0})
    once.add(sum(pauses), {"cpu": 1.0})
    assert often.get("cpu") == pytest.approx(once.get("cpu"))


def test_rates_are_per_second_and_a_counter_that_begins_anew_has_none() -> None:
    machine = Machine()
    meter = machine.meter(smoothing_s=0.0)
    machine.passes(2.0, net_sent=3_000_000, disk_read=500)
    report = meter.sample(0, 0)
    assert (report.net_sent_bps, report.disk_read_bps) == (1_500_000, 250)
    machine.passes(1.0, net_sent=10)
    assert meter.sample(0, 0).net_sent_bps == 0


def test_only_what_has_changed_enough_is_told_and_the_rest_in_time() -> None:
    machine = Machine()
    meter = machine.meter(smoothing_s=0.0)
    assert meter.news(0, 0) is not None
    machine.passes(1.0)
    assert meter.news(0, 0) is None
    assert meter.news(0, 1) is not None
    machine.passes(1.0, cpu=0.51)
    assert meter.news(0, 1) is None
    machine.passes(REFRESH_S, cpu=0.51)
    told = meter.news(0, 1)
    assert told is not None
    assert told.cpu == 0.51
    machine.passes(2 * REFRESH_S, cpu=0.51)
    assert meter.news(0, 1) is None
    meter.forget_reported()
    assert meter.news(0, 1) is not None
    machine.passes(1.0, cpu=0.9)
    assert meter.news(0, 1) is not None


@pytest.mark.parametrize(
    ("name", "before", "little", "enough"),
    [
        ("gpu", 0.5, 0.51, 0.55),
        ("packet_loss", 0.0, 0.01, 0.05),
        ("latency_ms", 100.0, 105.0, 111.0),
        ("latency_ms", 1.0, 1.5, 2.5),
        ("gpu_memory_free_bytes", 1 << 30, (1 << 30) + 5, 2 << 30),
    ],
)
def test_gauges_are_told_when_they_have_changed(
    name: str, before: float, little: float, enough: float
) -> None:
    machine = Machine()
    meter = machine.meter(smoothing_s=0.0)
    for value, told in ((before, True), (little, False), (enough, True)):
        machine.passes(1.0)
        machine.gauges = {name: value}
        report = meter.news(0, 0)
        assert (report is not None) is told
        if report is not None:
            assert getattr(report, name) == value


def test_a_gauge_that_is_missing_once_keeps_its_value_and_free_memory_is_not_smoothed() -> None:
    machine = Machine()
    meter = machine.meter()
    machine.gauges = {"gpu": 0.75, "gpu_memory_free_bytes": 1_000}
    meter.sample(0, 0)
    machine.passes(1.0)
    machine.gauges = {"gpu_memory_free_bytes": 0}
    report = meter.sample(0, 0)
    assert report.gpu == 0.75
    assert report.gpu_memory_free_bytes == 1, "0 would stand for not measured"


def test_meters_of_one_process_share_a_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = 0

    def read() -> Reading:
        nonlocal readings
        readings += 1
        return Reading(cpu=0.5, memory=0.5)

    monkeypatch.setattr(_load, "_read_machine", read)
    monkeypatch.setattr(_load, "_MACHINE", _load._Machine())
    meters = [LoadMeter() for _ in range(100)]
    assert [meter.sample(0, 0).cpu for meter in meters] == [0.5] * 100
    assert 1 <= readings < 100


def test_an_agent_without_gauges_tells_of_none() -> None:
    report = LoadMeter(read=lambda: Reading(0.5, 0.5)).sample(3, 2)
    assert (report.queued, report.running) == (3, 2)
    assert (report.gpu, report.gpu_memory_free_bytes, report.latency_ms, report.packet_loss) == (0, 0, 0, 0)


class Broken:
    def __float__(self) -> float:
        raise OSError("gone")


NONSENSE: list[tuple[Any, Any]] = [
    ("gpu", math.nan),
    ("gpu", math.inf),
    ("gpu", -0.1),
    ("gpu", 1.01),
    ("gpu", True),
    ("gpu", "0.5"),
    ("gpu", None),
    ("gpu", Broken()),
    ("gpu", 10**400),
    ("latency_ms", -1),
    ("latency_ms", math.inf),
    ("gpu_memory_free_bytes", 1 << 70),
    ("gpus", 0.5),
    (3, 0.5),
]


@pytest.mark.parametrize(("name", "value"), NONSENSE)
def test_nonsense_from_gauges_is_logged_once_and_dropped(
    name: Any, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    reader = GaugeReader(lambda: {"packet_loss": 0.25, name: value})
    with caplog.at_level(logging.WARNING, "agent_sdk"):
        assert [reader.read(), reader.read()] == [{"packet_loss": 0.25}] * 2
    (record,) = caplog.records
    assert str(name) in record.getMessage()


@pytest.mark.parametrize("given", [5, None, "gpu", [0.5]])
def test_gauges_that_are_no_mapping_are_dropped(given: Any, caplog: pytest.LogCaptureFixture) -> None:
    reader = GaugeReader(lambda: given)
    with caplog.at_level(logging.WARNING, "agent_sdk"):
        assert [reader.read(), reader.read()] == [{}, {}]
    assert len(caplog.records) == 1


def test_what_gauges_raise_costs_the_figures_alone(caplog: pytest.LogCaptureFixture) -> None:
    def gauges() -> dict[str, float]:
        raise RuntimeError("no such device")

    reader = GaugeReader(gauges)
    with caplog.at_level(logging.WARNING, "agent_sdk"):
        assert [reader.read(), reader.read()] == [{}, {}]
    assert [record.getMessage() for record in caplog.records] == [
        "the agent's gauges raised RuntimeError('no such device'): dropped"
    ]


def test_complaints_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    names = iter(range(10 * COMPLAINTS_KEPT))
    reader = GaugeReader(lambda: {f"gauge{next(names)}": 1.0})
    with caplog.at_level(logging.WARNING, "agent_sdk"):
        for _ in range(2 * COMPLAINTS_KEPT):
            assert reader.read() == {}
    assert len(caplog.records) == COMPLAINTS_KEPT


async def test_gauges_of_a_program_reach_the_coordinator(node: Node, launch: Launch) -> None:
    launch(Agent(node.address, "a1", gauges=lambda: {"gpu": 0.5, "latency_ms": 7.5}))
    peer = await node.session()
    await peer.welcome(settings=agent_pb2.Settings(load_interval_ms=5))
    await peer.next_load()
    assert (peer.loads[0].gpu, peer.loads[0].latency_ms) == (0.5, 7.5)


async def test_a_load_that_cannot_be_measured_costs_that_report_alone(
    node: Node, launch: Launch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    news, calls = LoadMeter.news, [0]

    def fails_twice(self: LoadMeter, queued: int, running: int) -> agent_pb2.LoadReport | None:
        calls[0] += 1
        if calls[0] <= 2:
            raise OSError("no /proc")
        return news(self, queued, running)

    monkeypatch.setattr(LoadMeter, "news", fails_twice)
    launch(Agent(node.address, "a1"))
    peer = await node.session()
    await peer.welcome(settings=agent_pb2.Settings(load_interval_ms=5))
    await peer.next_load()
    failed = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in failed] == ["the load could not be measured"] * 2
    assert all(record.exc_info for record in failed)

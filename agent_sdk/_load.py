"""How busy this machine is: measured by psutil, smoothed, and told when it has changed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import psutil

from agent_sdk._gauges import GaugeReader, Gauges
from quorumflow_proto.v1 import agent_pb2

SHARE_STEP: Final = 0.02
"""A change of CPU or memory below this is not worth a report."""
RATE_STEP_BPS: Final = 1_000_000
"""The same of a disk or network rate, in bytes per second, unless it is a tenth of the rate and more."""
LATENCY_STEP_MS: Final = 1.0
"""The same of a latency, unless it is a tenth of it and more."""
MEMORY_STEP_BYTES: Final = 64 << 20
"""The same of free GPU memory."""
SMOOTHING_S: Final = 5.0
"""A change is seen to two thirds after so many seconds: shorter bursts are nothing to plan by."""
REFRESH_S: Final = 30.0
"""What has changed by less is told after so many seconds all the same: a threshold may lie between."""
SHARED_S: Final = 0.1
"""All agents of a process go by one reading of the machine for so long: to read costs more than all else that
an idle agent does."""

_NOT_SMOOTHED: Final = frozenset({"gpu_memory_free_bytes"})
"""What is free is free at once."""


class Meter(Protocol):
    """Tells how busy the machine is, when that has changed."""

    def news(self, queued: int, running: int) -> agent_pb2.LoadReport | None:
        """The load now, of an agent with so many attempts; None while nothing has changed enough."""

    def forget_reported(self) -> None:
        """A new session knows nothing yet."""


@dataclass(frozen=True, slots=True)
class Reading:
    """CPU and memory now, as shares; bytes of disk and network since the machine came up."""

    cpu: float
    memory: float
    disk_read: int = 0
    disk_written: int = 0
    net_sent: int = 0
    net_received: int = 0


class Smoother:
    """Exponentially weighted means of figures that come at any times: a figure weighs by the time that it
    stands for. The first one of a name passes as it is."""

    def __init__(self, time_constant_s: float) -> None:
        self._time_constant_s = time_constant_s
        self._means: dict[str, float] = {}

    def add(self, seconds: float, figures: Mapping[str, float]) -> None:
        """Figures of the last so many seconds; names that are missing stay as they are."""
        weight = 1.0 if self._time_constant_s <= 0 else -math.expm1(-seconds / self._time_constant_s)
        for name, value in figures.items():
            known = self._means.get(name, value)
            self._means[name] = value if name in _NOT_SMOOTHED else known + weight * (value - known)

    def get(self, name: str) -> float:
        """The mean; 0 of a name that never came."""
        return self._means.get(name, 0.0)


class LoadMeter:
    """Measures since its last sample; the first one has no rates. `gauges` add what psutil does not know; the
    latency of the network is left to them, since every answer on the session's stream waits for a commit,
    and would measure the coordinator's disks."""

    def __init__(
        self,
        gauges: Gauges | None = None,
        *,
        smoothing_s: float = SMOOTHING_S,
        read: Callable[[], Reading] | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gauges = GaugeReader(gauges)
        self._smoother = Smoother(smoothing_s)
        self._read = read or _MACHINE.read
        self._now_s = now_s
        self._reading, self._read_s = self._read(), now_s()
        self._reported: agent_pb2.LoadReport | None = None
        self._reported_s = 0.0

    def sample(self, queued: int, running: int) -> agent_pb2.LoadReport:
        """The load now; rates in bytes per second."""
        before, now, now_s = self._reading, self._read(), self._now_s()
        seconds = max(now_s - self._read_s, 0.0)
        self._reading, self._read_s = now, now_s
        self._smoother.add(seconds, {**_figures(before, now, seconds), **self._gauges.read()})
        mean = self._smoother.get
        return agent_pb2.LoadReport(
            cpu=mean("cpu"),
            memory=mean("memory"),
            disk_read_bps=round(mean("disk_read_bps")),
            disk_write_bps=round(mean("disk_write_bps")),
            net_sent_bps=round(mean("net_sent_bps")),
            net_received_bps=round(mean("net_received_bps")),
            queued=queued,
            running=running,
            gpu=mean("gpu"),
            gpu_memory_free_bytes=round(mean("gpu_memory_free_bytes")),
            latency_ms=mean("latency_ms"),
            packet_loss=mean("packet_loss"),
        )

    def news(self, queued: int, running: int) -> agent_pb2.LoadReport | None:
        """A sample that differs enough from the last one handed out; None while nothing has changed."""
        report = self.sample(queued, running)
        before = self._reported
        fresh = report == before or self._read_s - self._reported_s < REFRESH_S
        if before is not None and fresh and not differs(before, report):
            return None
        self._reported, self._reported_s = report, self._read_s
        return report

    def forget_reported(self) -> None:
        """A new session knows nothing yet."""
        self._reported = None


def differs(before: agent_pb2.LoadReport, after: agent_pb2.LoadReport) -> bool:
    """Whether the change is worth a report."""
    return (before.queued, before.running) != (after.queued, after.running) or any(
        abs(getattr(after, name) - getattr(before, name)) >= max(step, share * getattr(before, name))
        for names, step, share in _STEPS
        for name in names
    )


_STEPS: Final = (
    (("cpu", "memory", "gpu", "packet_loss"), SHARE_STEP, 0.0),
    (("disk_read_bps", "disk_write_bps", "net_sent_bps", "net_received_bps"), RATE_STEP_BPS, 0.1),
    (("gpu_memory_free_bytes",), MEMORY_STEP_BYTES, 0.0),
    (("latency_ms",), LATENCY_STEP_MS, 0.1),
)
"""Names, and the change that is worth a report: by so much, and by such a share of what was told last."""


def _figures(before: Reading, now: Reading, seconds: float) -> dict[str, float]:
    """What psutil says, per second where it counts. Between two readings at one time there is no rate."""
    shares = {"cpu": min(max(now.cpu, 0.0), 1.0), "memory": min(max(now.memory, 0.0), 1.0)}
    if seconds <= 0:
        return shares
    return shares | {
        "disk_read_bps": max(now.disk_read - before.disk_read, 0) / seconds,
        "disk_write_bps": max(now.disk_written - before.disk_written, 0) / seconds,
        "net_sent_bps": max(now.net_sent - before.net_sent, 0) / seconds,
        "net_received_bps": max(now.net_received - before.net_received, 0) / seconds,
    }


class _Machine:
    """This machine, by its last reading."""

    def __init__(self) -> None:
        self._reading: Reading | None = None
        self._read_s = 0.0

    def read(self) -> Reading:
        """As it is now, or was a moment ago."""
        now_s = time.monotonic()
        if self._reading is None or now_s - self._read_s >= SHARED_S:
            self._reading, self._read_s = _read_machine(), now_s
        return self._reading


_MACHINE: Final = _Machine()


def _read_machine() -> Reading:
    # Both are None where the platform shows no devices, as in some containers: the stubs do not say so.
    disk: Any = psutil.disk_io_counters()
    net: Any = psutil.net_io_counters()
    return Reading(
        cpu=psutil.cpu_percent() / 100,
        memory=psutil.virtual_memory().percent / 100,
        disk_read=disk.read_bytes if disk else 0,
        disk_written=disk.write_bytes if disk else 0,
        net_sent=net.bytes_sent if net else 0,
        net_received=net.bytes_recv if net else 0,
    )

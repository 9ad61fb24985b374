"""How busy this machine is, by psutil."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final, Protocol

import psutil

from quorumflow_proto.v1 import agent_pb2

SHARE_STEP: Final = 0.02
"""A change of CPU or memory below this is not worth a report."""
RATE_STEP_BPS: Final = 1_000_000
"""The same of a disk or network rate, in bytes per second, unless it is a tenth of the rate and more."""


class Meter(Protocol):
    """Tells how busy the machine is, when that has changed."""

    def news(self, queued: int, running: int) -> agent_pb2.LoadReport | None:
        """The load now, of an agent with so many attempts; None while nothing has changed enough."""

    def forget_reported(self) -> None:
        """A new session knows nothing yet."""


@dataclass(frozen=True, slots=True)
class _Totals:
    at_s: float
    disk_read: int
    disk_written: int
    net_sent: int
    net_received: int


class LoadMeter:
    """Measures since its last sample; the first one has no rates."""

    def __init__(self) -> None:
        self._totals = _read_totals()
        self._reported: agent_pb2.LoadReport | None = None
        psutil.cpu_percent()

    def sample(self, queued: int, running: int) -> agent_pb2.LoadReport:
        """The load now; rates in bytes per second, averaged since the sample before."""
        before, now = self._totals, _read_totals()
        self._totals = now
        seconds = max(now.at_s - before.at_s, 1e-3)

        def rate(after: int, earlier: int) -> int:
            return max(0, round((after - earlier) / seconds))

        return agent_pb2.LoadReport(
            cpu=psutil.cpu_percent() / 100,
            memory=psutil.virtual_memory().percent / 100,
            disk_read_bps=rate(now.disk_read, before.disk_read),
            disk_write_bps=rate(now.disk_written, before.disk_written),
            net_sent_bps=rate(now.net_sent, before.net_sent),
            net_received_bps=rate(now.net_received, before.net_received),
            queued=queued,
            running=running,
        )

    def news(self, queued: int, running: int) -> agent_pb2.LoadReport | None:
        """A sample that differs enough from the last one handed out; None while nothing has changed."""
        report = self.sample(queued, running)
        if self._reported is not None and not differs(self._reported, report):
            return None
        self._reported = report
        return report

    def forget_reported(self) -> None:
        """A new session knows nothing yet."""
        self._reported = None


def differs(before: agent_pb2.LoadReport, after: agent_pb2.LoadReport) -> bool:
    """Whether the change is worth a report."""
    shares = ((before.cpu, after.cpu), (before.memory, after.memory))
    rates = (
        (before.disk_read_bps, after.disk_read_bps),
        (before.disk_write_bps, after.disk_write_bps),
        (before.net_sent_bps, after.net_sent_bps),
        (before.net_received_bps, after.net_received_bps),
    )
    return (
        (before.queued, before.running) != (after.queued, after.running)
        or any(abs(new - old) >= SHARE_STEP for old, new in shares)
        or any(abs(new - old) >= max(RATE_STEP_BPS, old // 10) for old, new in rates)
    )


def _read_totals() -> _Totals:
    # Both are None where the platform shows no devices, as in some containers: the stubs do not say so.
    disk: Any = psutil.disk_io_counters()
    net: Any = psutil.net_io_counters()
    return _Totals(
        at_s=time.monotonic(),
        disk_read=disk.read_bytes if disk else 0,
        disk_written=disk.write_bytes if disk else 0,
        net_sent=net.bytes_sent if net else 0,
        net_received=net.bytes_recv if net else 0,
    )

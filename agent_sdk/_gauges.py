"""What a program measures itself for its agent, checked: a wrong figure costs the figure, never the agent."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, SupportsFloat

Gauges = Callable[[], Mapping[str, float]]
"""Gives what the program knows of, by the names of `KNOWN`."""

COMPLAINTS_KEPT: Final = 32
"""Different complaints that are logged; beyond, the program is known to be wrong."""

logger = logging.getLogger("agent_sdk")


class Range(NamedTuple):
    """What a figure may be, from 0 on."""

    most: float
    allowed: str


_SHARE: Final = Range(1.0, "a number from 0 to 1")

KNOWN: Final[Mapping[str, Range]] = {
    "gpu": _SHARE,
    "gpu_memory_free_bytes": Range(float(1 << 60), "a number of bytes"),
    "latency_ms": Range(3_600_000.0, "milliseconds, of an hour at most"),
    "packet_loss": _SHARE,
}
"""The gauges that there are: of the GPU, and of the network from here to where tasks reach out."""


class GaugeReader:
    """Reads the program's gauges. What is wrong with them is logged once each, and dropped."""

    def __init__(self, gauges: Gauges | None) -> None:
        self._gauges = gauges
        self._complaints: set[str] = set()

    def read(self) -> dict[str, float]:
        """What can be believed of the figures now; never raises."""
        if self._gauges is None:
            return {}
        try:
            given = dict(self._gauges())
        except Exception as error:
            self._complain("raised", f"the agent's gauges raised {error!r}: dropped")
            return {}
        figures = {
            name: number for name, value in given.items() if (number := self._figure(name, value)) >= 0
        }
        if "gpu_memory_free_bytes" in figures:
            # In a report, 0 stands for not measured.
            figures["gpu_memory_free_bytes"] = max(figures["gpu_memory_free_bytes"], 1.0)
        return figures

    def _figure(self, name: object, value: object) -> float:
        """The figure, or -1 if it means nothing."""
        known = KNOWN.get(name) if isinstance(name, str) else None
        if known is None:
            self._complain(f"name {name!r}", f"there is no gauge {name!r}, only {', '.join(KNOWN)}: dropped")
            return -1.0
        number = _number(value)
        # What is not a number compares false with any.
        if 0 <= number <= known.most:
            return number
        self._complain(f"value of {name}", f"the gauge {name} is {value!r}, not {known.allowed}: dropped")
        return -1.0

    def _complain(self, about: str, message: str) -> None:
        if about not in self._complaints and len(self._complaints) < COMPLAINTS_KEPT:
            self._complaints.add(about)
            logger.warning("%s", message)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, SupportsFloat):
        return math.nan
    try:
        return float(value)
    except Exception:
        return math.nan

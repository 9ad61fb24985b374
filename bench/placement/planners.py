"""The static planners by name: they know every run time, and plan the whole workflow at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from bench.placement.cpop import cpop
from bench.placement.heft import heft
from bench.placement.minmin import maxmin, minmin
from bench.placement.peft import peft
from bench.placement.schedules import Problem, Schedule

PLANNERS: Final[Mapping[str, Callable[[Problem], Schedule]]] = {
    "heft": heft,
    "cpop": cpop,
    "peft": peft,
    "minmin": minmin,
    "maxmin": maxmin,
}

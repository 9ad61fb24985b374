"""Ways to hurt a cluster of real processes, one module for each. `KINDS` lists them for plans."""

from __future__ import annotations

from typing import Final

from chaos.faults.agents import Churn, FreezeAgents, KillAgents, KillAtResult
from chaos.faults.base import Fault, Need, Site, Wound
from chaos.faults.clocks import Skew
from chaos.faults.disks import FullDisk
from chaos.faults.links import Bridge, Flap, Isolate, Reset, Slow, Split
from chaos.faults.membership import Replace
from chaos.faults.operations import Hook, MoveLeader
from chaos.faults.processes import Freeze, Kill, PowerCut, Restart, Stall

__all__ = ["KINDS", "Fault", "Need", "Site", "Wound"]

KINDS: Final[tuple[type[Fault], ...]] = (
    Kill, Freeze, Stall, Restart, PowerCut, Replace,
    Isolate, Split, Bridge, Flap, Slow, Reset,
    FullDisk, Skew,
    KillAgents, FreezeAgents, KillAtResult, Churn,
    MoveLeader, Hook,
)  # fmt: skip

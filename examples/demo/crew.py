"""The eight robots of the demo."""

from __future__ import annotations

from typing import Final

from coordinator.cli.agent_spec import AgentSpec

CREW: Final = [
    AgentSpec(id="welder-1", slots=1, capabilities={"weld": 5}, simulate=True),
    AgentSpec(id="welder-2", slots=1, capabilities={"weld": 4}, simulate=True),
    AgentSpec(id="welder-3", slots=1, capabilities={"weld": 3}, simulate=True),
    AgentSpec(id="painter-1", slots=1, capabilities={"paint": 5}, simulate=True),
    AgentSpec(id="painter-2", slots=1, capabilities={"paint": 5}, simulate=True),
    AgentSpec(id="assembler-1", slots=1, capabilities={"assemble": 5, "transport": 1}, simulate=True),
    AgentSpec(id="assembler-2", slots=1, capabilities={"assemble": 3, "transport": 1}, simulate=True),
    AgentSpec(id="inspector-1", slots=1, capabilities={"inspect": 5, "transport": 2}, simulate=True),
]
"""One slot each: a robot does one thing at a time."""

EXPENDABLE: Final = ("welder-2", "painter-1", "assembler-2")
"""Robots whose work others of the crew can take over."""

"""What an agent process offers: a struct, the flags of `coordinator agent`, a YAML file of many."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec
import yaml
from msgspec import Meta

from coordinator.addresses import Id
from coordinator.errors import ConfigError

MAX_AGENTS: Final = 1_000
"""Agents of one local cluster; each is a process."""

Slots = Annotated[int, Meta(ge=1, le=10_000)]
Level = Annotated[int, Meta(ge=1, le=1_000_000)]
Speed = Annotated[float, Meta(gt=0, le=1_000)]
Watts = Annotated[float, Meta(ge=0, le=1_000_000)]


class AgentSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One agent, as `agent_sdk.Agent` takes it. `shell` lets it run the built-in `shell` tasks;
    with `simulate` it sleeps through tasks of types that it has no handler for."""

    id: Id
    slots: Slots = 3
    capabilities: dict[str, Level] = {}
    labels: dict[str, str] = {}
    zone: str = ""
    tools: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    cached_models: tuple[str, ...] = ()
    speed: Speed = 1.0
    busy_watts: Watts = 0.0
    tool_limits: dict[str, Level] = {}
    model_limits: dict[str, Level] = {}
    data: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    shell: bool = False
    simulate: bool = False

    def flags(self) -> list[str]:
        """The flags that make `coordinator agent` this agent."""
        given = ["--id", self.id, "--slots", str(self.slots), "--zone", self.zone]
        given += ["--speed", str(self.speed), "--busy-watts", str(self.busy_watts)]
        lists = {
            "--capability": _assignments(self.capabilities),
            "--label": _assignments(self.labels),
            "--tool-limit": _assignments(self.tool_limits),
            "--model-limit": _assignments(self.model_limits),
            "--tool": self.tools,
            "--permission": self.permissions,
            "--environment": self.environments,
            "--protocol": self.protocols,
            "--cached-model": self.cached_models,
            "--data": self.data,
            "--group": self.groups,
        }
        for flag, values in lists.items():
            for value in values:
                given += [flag, value]
        switches = {"--shell": self.shell, "--simulate": self.simulate}
        return given + [switch for switch, on in switches.items() if on]


def _assignments(pairs: Mapping[str, object]) -> list[str]:
    return [f"{name}={value}" for name, value in pairs.items()]


def alike(count: int, slots: int) -> list[AgentSpec]:
    """`count` agents a1, a2, ... without any particular skill."""
    return [AgentSpec(id=f"a{number}", slots=slots) for number in range(1, count + 1)]


def read_agent_specs(path: Path) -> list[AgentSpec]:
    """The agents that a YAML file lists. Raises ConfigError, which names the place."""
    try:
        return parse_agent_specs(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the agents' file {path}: {error}", path=path) from error


def parse_agent_specs(text: str, name: str) -> list[AgentSpec]:
    """As `read_agent_specs`, of a file's text; `name` stands in errors."""
    try:
        specs = msgspec.convert(yaml.safe_load(text), list[AgentSpec])
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ConfigError(f"{name} is not a list of agents: {error}", path=name) from error
    ids = [spec.id for spec in specs]
    twice = sorted({one for one in ids if ids.count(one) > 1})
    if twice or not 1 <= len(ids) <= MAX_AGENTS:
        problem = f"{twice[0]} stands in it twice" if twice else f"it has {len(ids)} agents"
        raise ConfigError(f"{name}: {problem}; list 1 to {MAX_AGENTS} agents with distinct ids", path=name)
    return specs

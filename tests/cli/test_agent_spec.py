"""What an agent process offers: read from a file, written as flags, understood by `coordinator agent`.

Answers D1 (capability vectors with levels) for agents started from the command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import agent_sdk
from coordinator.cli.agent_spec import AgentSpec, alike, parse_agent_specs, read_agent_specs
from coordinator.cli.server import main
from coordinator.errors import ConfigError

FULL = """
- id: welder-1
  slots: 2
  capabilities: {weld: 3}
  labels: {zone: north, team: a=b}
  zone: north
  tools: [torch]
  permissions: [fire]
  environments: [hall]
  protocols: [mqtt]
  cached_models: [vision]
  speed: 2.5
  busy_watts: 40
  tool_limits: {torch: 1}
  model_limits: {vision: 2}
  data: [maps, "site:north"]
  groups: [night]
  shell: true
  simulate: true
- {id: plain}
"""


class RecordedAgent:
    """In place of the SDK's agent: keeps how it was made instead of connecting."""

    made: dict[str, Any] = {}

    def __init__(self, endpoints: str, agent_id: str | None, **profile: Any) -> None:
        self.agent_id = agent_id
        self.made.clear()
        self.made.update(profile, endpoints=endpoints, id=agent_id)

    def add_builtins(self, *, shell: bool, simulate: bool) -> None:
        """As the SDK's."""
        self.made.update(shell=shell, simulate=simulate)

    def run(self) -> None:
        """Returns at once."""


def test_a_file_s_agent_reaches_the_sdk_as_it_stands_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_sdk, "Agent", RecordedAgent)
    full, plain = parse_agent_specs(FULL, "crew.yaml")
    result = CliRunner().invoke(main, ["agent", "--endpoints", "h:1", *full.flags()])
    assert result.exit_code == 0, result.output
    assert RecordedAgent.made == {
        "endpoints": "h:1",
        "id": "welder-1",
        "slots": 2,
        "capabilities": {"weld": 3},
        "labels": {"zone": "north", "team": "a=b"},
        "zone": "north",
        "tools": ("torch",),
        "permissions": ("fire",),
        "environments": ("hall",),
        "protocols": ("mqtt",),
        "cached_models": ("vision",),
        "speed": 2.5,
        "busy_watts": 40.0,
        "tool_limits": {"torch": 1},
        "model_limits": {"vision": 2},
        "data": ("maps", "site:north"),
        "groups": ("night",),
        "effects_path": None,
        "shell": True,
        "simulate": True,
    }
    assert CliRunner().invoke(main, ["agent", *plain.flags(), "--effects", "e.jsonl"]).exit_code == 0
    made = RecordedAgent.made
    assert (made["id"], made["slots"], made["shell"], made["simulate"]) == ("plain", 3, False, False)
    assert made["effects_path"] == Path("e.jsonl")


def test_a_capability_without_a_level_has_level_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_sdk, "Agent", RecordedAgent)
    assert (
        CliRunner().invoke(main, ["agent", "--capability", "weld", "--capability", "paint=2"]).exit_code == 0
    )
    assert RecordedAgent.made["capabilities"] == {"weld": 1, "paint": 2}


@pytest.mark.parametrize(
    "flags",
    [
        ["--capability", "weld=x"],
        ["--capability", "=1"],
        ["--label", "zone"],
        ["--tool-limit", "torch"],
        ["--model-limit", "vision=0"],
        ["--speed", "fast"],
    ],
)
def test_a_malformed_flag_is_refused(flags: list[str]) -> None:
    result = CliRunner().invoke(main, ["agent", *flags])
    assert result.exit_code == 2
    assert flags[0] in result.stderr


REFUSED = [
    ("", "list of agents"),
    ("[]", "1 to 1000 agents"),
    ("- {slots: 1}", "id"),
    ("- {id: a, slots: 0}", "slots"),
    ("- {id: a, colour: red}", "colour"),
    ("- {id: a, speed: 0}", "speed"),
    ("- {id: a, busy_watts: -1}", "busy_watts"),
    ("- {id: a, tool_limits: {t: 0}}", "tool_limits"),
    ("- {id: a}\n- {id: a}", "a stands in it twice"),
    ("- [", "crew.yaml"),
]


@pytest.mark.parametrize(("text", "hint"), REFUSED)
def test_a_wrong_file_is_refused_with_the_place(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=r"crew\.yaml") as refusal:
        parse_agent_specs(text, "crew.yaml")
    assert hint in str(refusal.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        read_agent_specs(tmp_path / "none.yaml")


def test_agents_alike_have_distinct_names() -> None:
    assert alike(2, 4) == [AgentSpec(id="a1", slots=4), AgentSpec(id="a2", slots=4)]

"""Plug-ins of other distributions: they stand beside those that Quorumflow brings, and one that is broken is
named (B2, E1)."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.errors import ConfigError, PluginFailed
from coordinator.plugins import FAMILIES, POLICIES, Plugins, installed, wanted
from coordinator.scheduling.costs.objectives import LeastLoaded
from coordinator.scheduling.costs.policies import NAMES, policy
from coordinator.scheduling.costs.weights import BALANCED, Policy, Weights
from coordinator.scheduling.settings import SchedulingSettings
from tests.families.distributions import install

IMPORTS = """
from coordinator.families.family import Family
from coordinator.scheduling.costs.objectives import LeastLoaded
from coordinator.scheduling.costs.weights import Policy, Weights
"""


def test_what_quorumflow_brings_is_plug_ins_itself() -> None:
    found = installed()
    assert found.families.names == ("model", "tool", "compute", "io", "communication", "hybrid")
    assert tuple(found.policies) == NAMES
    assert (found.policies["balanced"], found.policies["least-loaded"]) == (BALANCED, LeastLoaded)
    assert Plugins().families.names == found.families.names


def test_others_stand_beside_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        IMPORTS + 'LIFT = Family(name="lift")\nCALM = Policy("calm", Weights(energy=1.0))\n'
        "class Turns(LeastLoaded):\n    pass\n"
    )
    points = {FAMILIES: {"lift": "yard:LIFT"}, POLICIES: {"calm": "yard:CALM", "turns": "yard:Turns"}}
    install(tmp_path, "yard", source, points)
    monkeypatch.syspath_prepend(tmp_path)
    found = installed()
    assert found.families.names[-1] == "lift"
    assert found.families.named("lift").name == "lift"
    assert list(found.policies) == [*NAMES, "calm", "turns"]
    assert policy("calm", found.policies) == Policy("calm", Weights(energy=1.0))
    assert wanted(SchedulingSettings(policy="turns")).policies.keys() == found.policies.keys()


@pytest.mark.parametrize(
    ("case", "source", "group", "point", "complaint"),
    [
        ("a", "1 / 0", FAMILIES, "lift", "cannot be loaded: ZeroDivisionError"),
        ("b", "import no_such_module", FAMILIES, "lift", "cannot be loaded: ModuleNotFoundError"),
        ("c", "", FAMILIES, "lift", "cannot be loaded: AttributeError"),
        ("d", "IT = 5", FAMILIES, "lift", r"it is a int, not a coordinator\.families\.family\.Family"),
        ("e", 'IT = Family(name="hoist")', FAMILIES, "lift", "the family calls itself 'hoist'"),
        ("f", 'IT = Family(name="Lift")', FAMILIES, "Lift", "a family is named 'Lift'"),
        ("g", 'IT = Family(name="model")', FAMILIES, "model", "has that name, too: uninstall one"),
        ("h", 'IT = Policy("calm")', POLICIES, "quiet", "the policy calls itself 'calm'"),
        ("i", 'IT = Policy("calm", Weights(time=-1.0))', POLICIES, "calm", "weight of time is -1"),
        ("j", 'IT = Policy("calm", Weights(energy=float("nan")))', POLICIES, "calm", "energy is nan"),
        ("k", 'IT = Policy("calm", Weights(time=0.0))', POLICIES, "calm", "all weights are 0"),
        ("l", "IT = 5", POLICIES, "calm", "it is a int, neither a Policy nor an objective"),
        ("m", "IT = len", POLICIES, "calm", "it makes no objective of a round: TypeError"),
        ("n", "IT = lambda ledger, turn: 5", POLICIES, "calm", "it makes a int, which has no costs"),
        ("o", 'IT = Policy("fast")', POLICIES, "fast", "has that name, too: uninstall one"),
    ],
)
def test_a_broken_plug_in_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
    source: str,
    group: str,
    point: str,
    complaint: str,
) -> None:
    name = f"broken_{case}"
    install(tmp_path, name, IMPORTS + source, {group: {point: f"{name}:IT"}})
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginFailed, match=complaint) as raised:
        installed()
    assert f"'{point}' in {group} of " in raised.value.message
    assert raised.value.fields["name"] == point


def test_an_unknown_policy_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"scheduling\.policy is 'best'; allowed: balanced, fast, green"):
        wanted(SchedulingSettings(policy="best"))

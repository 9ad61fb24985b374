"""What the six families demand of a task, what they try again, and what they leave to tasks without a family
(B1, B4, F6)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.model import (
    Backoff,
    DagHeader,
    FamilyNeeds,
    Requirements,
    Resources,
    RetryPolicy,
    TaskFamily,
    TaskProfile,
)
from coordinator.dag.builder import build, build_additions
from coordinator.dag.draft import DagDraft, TaskDraft
from coordinator.dag.limits import DagLimits
from coordinator.errors import InvalidRequest, PluginFailed
from coordinator.families.built_in import ALL
from coordinator.families.family import Family
from coordinator.families.registry import NO_FAMILY, Families

LIMITS = DagLimits()
SIX = [family for family in TaskFamily if family is not TaskFamily.UNSPECIFIED]
PLUGIN = Family(
    name="lift",
    like=TaskFamily.TOOL,
    check=lambda requirements: "" if requirements.capabilities else "it needs no crane",
    retry=RetryPolicy(7),
)
BOTH = Families([*ALL, PLUGIN])


def needing(**fields: Any) -> Requirements:
    """Fields of the families' needs and of resources, and `capabilities`, go where they belong."""
    needs = {name: fields.pop(name) for name in FamilyNeeds.__struct_fields__ if name in fields}
    amounts = {name: fields.pop(name) for name in Resources.__struct_fields__ if name in fields}
    return Requirements(resources=Resources(**amounts), needs=FamilyNeeds(**needs), **fields)


def profile_of(families: Families = BOTH, **fields: Any) -> TaskProfile:
    """That of a task with these fields, as it is submitted."""
    draft = DagDraft(DagHeader("d"), [TaskDraft(id="a", type="t", **fields)])
    (profile,) = build(draft, LIMITS, families).profiles
    return profile


@pytest.mark.parametrize(
    ("family", "requirements", "complaint"),
    [
        (TaskFamily.MODEL, needing(), "family model, and it names no model: give that, GPU memory"),
        (TaskFamily.MODEL, needing(model_version="2"), "it gives the version of a model, or may be batched"),
        (TaskFamily.MODEL, needing(batchable=True, gpu_memory_bytes=1), "may be batched, and names no model"),
        (TaskFamily.MODEL, needing(model="bert", model_version="2", batchable=True), ""),
        (TaskFamily.MODEL, needing(gpu_memory_bytes=1), ""),
        (TaskFamily.MODEL, needing(capabilities=(("cuda", 8),)), ""),
        (TaskFamily.TOOL, needing(permissions=("write",)), "family tool, and it names no tool"),
        (TaskFamily.TOOL, needing(tool="psql"), ""),
        (TaskFamily.COMPUTE, needing(), ""),
        (TaskFamily.IO, needing(), ""),
        (TaskFamily.COMMUNICATION, needing(), ""),
        (TaskFamily.HYBRID, needing(), "it has the needs of no family: give those of two families"),
        (TaskFamily.HYBRID, needing(tool="psql"), "it has the needs of tool: give those of two families"),
        (TaskFamily.HYBRID, needing(tool="psql", milli_cores=1), ""),
        (TaskFamily.HYBRID, needing(data_location="z", protocol="mqtt"), ""),
        (TaskFamily.UNSPECIFIED, needing(model_version="2"), ""),
    ],
)
def test_what_a_family_demands(family: TaskFamily, requirements: Requirements, complaint: str) -> None:
    if not complaint:
        assert profile_of(family=family, requirements=requirements).family is family
        return
    with pytest.raises(InvalidRequest, match=complaint) as refused:
        profile_of(family=family, requirements=requirements)
    assert "task 'a'" in refused.value.message
    added = TaskDraft(id="b", type="t", family=family, requirements=requirements)
    with pytest.raises(InvalidRequest, match=complaint):
        build_additions([added], DagHeader("d"), 1, LIMITS)


def test_who_may_race_and_what_is_tried_again() -> None:
    """F2: only what does nothing but give a result runs twice at once."""
    assert {family.name for family in ALL if family.repeatable} == {"model", "compute"}
    assert NO_FAMILY.repeatable is False
    assert {family.name: family.retry.max_attempts for family in (*ALL, NO_FAMILY)} == {
        "model": 2,
        "tool": 1,
        "compute": 1,
        "io": 3,
        "communication": 4,
        "hybrid": 1,
        "unspecified": 1,
    }


def test_the_retry_policy_of_a_task_comes_before_that_of_its_family() -> None:
    exponential = RetryPolicy(3, Backoff.EXPONENTIAL, 1_000, 30_000)
    assert profile_of(family=TaskFamily.IO).retry == exponential
    assert profile_of(family=TaskFamily.IO, retry=RetryPolicy()).retry == RetryPolicy()
    assert profile_of().retry == RetryPolicy()


def test_every_built_in_family_is_within_the_limits_on_tasks() -> None:
    for family in ALL:
        assert family.retry.max_attempts <= LIMITS.max_attempts
        assert family.retry.delay_ms <= family.retry.max_delay_ms <= LIMITS.max_delay_ms


# --- families of plug-ins -----------------------------------------------------------------------------------


def test_a_task_of_a_plug_in_is_checked_and_keeps_its_name() -> None:
    """B2."""
    crane = needing(capabilities=(("crane", 5),))
    profile = profile_of(family_name="lift", requirements=crane)
    assert (profile.family, profile.family_name, profile.retry) == (TaskFamily.TOOL, "lift", RetryPolicy(7))
    assert profile_of(family=TaskFamily.TOOL, family_name="lift", requirements=crane) == profile
    assert BOTH.of(profile) is PLUGIN
    assert Families().of(profile) is None
    with pytest.raises(InvalidRequest, match="of the family lift, and it needs no crane"):
        profile_of(family_name="lift")
    with pytest.raises(InvalidRequest, match="lift, which is not like io"):
        profile_of(family=TaskFamily.IO, family_name="lift", requirements=crane)


@pytest.mark.parametrize("name", ["lifts", "LIFT", " ", "model "])
def test_an_unknown_family_is_refused_with_those_there_are(name: str) -> None:
    known = "model, tool, compute, io, communication, hybrid, lift"
    with pytest.raises(InvalidRequest, match=f"no task family '{name}': give one of {known}"):
        profile_of(family_name=name)


@pytest.mark.parametrize("family", SIX)
def test_a_name_of_the_six_is_the_same_as_its_number(family: TaskFamily) -> None:
    requirements = needing(model="m", tool="t")
    named = profile_of(family_name=family.name.lower(), requirements=requirements)
    assert named == profile_of(family=family, requirements=requirements)
    assert named.family_name == ""


def test_a_check_that_fails_refuses_the_task_and_names_the_family() -> None:
    def check(requirements: Requirements) -> str:
        raise ZeroDivisionError("in the plug-in")

    broken = Families([Family(name="broken", check=check)])
    with pytest.raises(PluginFailed, match=r"the family 'broken' failed to check a task: ZeroDivision"):
        profile_of(broken, family_name="broken")


@pytest.mark.parametrize("name", ["", "Lift", "a b", "9", "a" * 65])
def test_a_family_has_a_name_that_can_be_written_anywhere(name: str) -> None:
    with pytest.raises(PluginFailed, match="a family is named"):
        Family(name=name)


@pytest.mark.parametrize("twice", ["model", "lift", "unspecified"])
def test_a_name_is_taken_once(twice: str) -> None:
    with pytest.raises(PluginFailed, match=f"two families named '{twice}'"):
        Families([*ALL, PLUGIN, Family(name=twice)])


@given(st.from_type(FamilyNeeds), st.builds(Resources, *[st.integers(0, 1 << 40)] * 5))
def test_a_check_says_yes_or_why_not_whatever_is_required(needs: FamilyNeeds, amounts: Resources) -> None:
    for family in ALL:
        complaint = family.check(Requirements(amounts, needs=needs))
        assert complaint == "" or complaint.startswith("it ")


def test_profiles_stored_before_there_were_plug_ins_are_read() -> None:
    """A4: the name is a field at the end."""
    old = msgspec.msgpack.encode(TaskProfile("t", TaskFamily.IO))[:-1]
    as_before = bytes([old[0] - 1]) + old[1:]
    assert msgspec.msgpack.decode(as_before, type=TaskProfile) == TaskProfile("t", TaskFamily.IO)

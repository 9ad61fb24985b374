"""What a draft becomes and what is refused: cycles named in order, unknown and duplicate ids, two producers,
every limit (C1, C2); large DAGs (C7); tasks that a running one adds (B7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from coordinator.core.model import (
    DagHeader,
    DataItem,
    Priority,
    Requirements,
    Resources,
    RetryPolicy,
    TaskExtras,
)
from coordinator.dag import profiles
from coordinator.dag.builder import BuiltDag, build, build_additions, split
from coordinator.dag.draft import DagDraft, TaskDraft
from coordinator.dag.limits import DagLimits
from coordinator.dag.profiles import Checked
from coordinator.errors import (
    CoordinatorError,
    DagCycle,
    DuplicateProducer,
    DuplicateTaskId,
    InvalidRequest,
    LimitExceeded,
    UnknownDependency,
)
from coordinator.families.family import Family
from coordinator.families.registry import Families

LIMITS = DagLimits()
DraftOf = Callable[..., DagDraft]


def one(**fields: Any) -> DagDraft:
    """A DAG of a single task."""
    return DagDraft(DagHeader("d"), [TaskDraft(**({"id": "a", "type": "noop"} | fields))])


def edges_of(built: BuiltDag) -> dict[str, list[str]]:
    """Ids by id, as built."""
    ids = built.block.ids
    return {ids[at]: [ids[before] for before in depends] for at, depends in enumerate(built.block.depends)}


def test_edges_come_from_ids_and_from_data_without_duplicates(draft_of: DraftOf) -> None:
    draft = draft_of(
        {"join": ["left", "left"], "right": [], "left": ["start"], "start": []},
        {"start": ([], ["raw"]), "right": (["raw", "from outside"], ["r"]), "join": (["r", "raw"], [])},
    )
    assert edges_of(build(draft, LIMITS)) == {
        "start": [],
        "right": ["start"],
        "left": ["start"],
        "join": ["start", "right", "left"],
    }


def test_order_is_topological_and_otherwise_that_of_submission(draft_of: DraftOf) -> None:
    built = build(draft_of({"c": ["z"], "a": [], "z": [], "b": ["a"]}), LIMITS)
    assert built.block.ids == ["a", "z", "c", "b"]
    in_order = build(draft_of({"z": [], "y": ["z"], "x": []}), LIMITS)
    assert in_order.block.ids == ["z", "y", "x"]


def test_columns_follow_the_tasks_through_reordering() -> None:
    late = TaskDraft(
        id="late",
        type="t",
        payload=b"2",
        depends_on=("early",),
        expected_ms=7,
        labels=(("k", "v"),),
        parent_id="p",
    )
    early = TaskDraft(id="early", type="s", payload=b"1")
    block = build(DagDraft(DagHeader("d"), [late, early]), LIMITS).block
    assert (block.ids, block.payloads, block.expected_ms) == (["early", "late"], [b"1", b"2"], [0, 7])
    assert block.extras == {1: TaskExtras(labels=(("k", "v"),), parent_id="p")}


def test_what_has_been_checked_for_one_dag_is_in_order_for_the_next() -> None:
    asked: list[Requirements] = []

    class Counting(Families):
        def check(self, family: Family, requirements: Requirements) -> str:
            asked.append(requirements)
            return "" if requirements == Requirements() else "it asks for too much"

    checked, families = Checked(), Counting()
    first, second = (build(one(), LIMITS, families, checked) for _ in range(2))
    assert len(asked) == 1
    assert first.profiles[0] is second.profiles[0]
    urgent = DagDraft(DagHeader("d", priority=Priority.URGENT), one().tasks)
    assert build(urgent, LIMITS, families, checked).profiles[0].priority is Priority.URGENT
    assert build(one(priority=Priority.URGENT), LIMITS, families, checked).profiles == [
        build(urgent, LIMITS, families).profiles[0]
    ]
    too_much = one(requirements=Requirements(resources=Resources(milli_cores=1)))
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="too much"):
            build(too_much, LIMITS, families, checked)


def test_no_more_is_remembered_of_what_was_checked_than_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "CHECKED_KEPT", 2)
    checked = Checked()
    for timeout_ms in (1, 2, 3, 1):
        assert build(one(timeout_ms=timeout_ms), LIMITS, checked=checked).profiles[0].timeout_ms == timeout_ms
    assert checked.get(()) is None
    assert len(checked._profiles) == 2


def test_tasks_that_are_alike_share_a_profile_in_normal_form() -> None:
    wanted = Requirements(capabilities=(("weld", 2), ("paint", 1)), anti_affinity=("g", "g"))
    same = Requirements(capabilities=(("paint", 1), ("weld", 2)), anti_affinity=("g",))
    tasks = [
        TaskDraft(id="a", type="t", requirements=wanted),
        TaskDraft(id="b", type="t", requirements=same, priority=Priority.HIGH),
        TaskDraft(id="c", type="t", requirements=same, timeout_ms=5),
    ]
    built = build(DagDraft(DagHeader("d", priority=Priority.HIGH, deadline_ms=9), tasks), LIMITS)
    assert built.block.profiles == [0, 0, 1]
    shared = built.profiles[0]
    assert shared.requirements == same
    assert (shared.priority, shared.deadline_ms, shared.timeout_ms) == (Priority.HIGH, 9, 300_000)
    assert shared.retry == RetryPolicy()
    assert built.profiles[1].timeout_ms == 5


@pytest.mark.parametrize(
    ("depends", "named"),
    [
        ({"a": ["a"]}, "a -> a"),
        ({"a": ["b"], "b": ["a"]}, "a -> b -> a"),
        ({"a": ["c"], "b": ["a"], "c": ["b"], "after": ["c"], "before": []}, "a -> b -> c -> a"),
        # of a long and a short one, the short one
        ({"a": ["e"], "b": ["a"], "c": ["b"], "d": ["c"], "e": ["d", "f"], "f": ["e"]}, "e -> f -> e"),
    ],
)
def test_a_cycle_is_named_in_order(draft_of: DraftOf, depends: dict[str, list[str]], named: str) -> None:
    with pytest.raises(DagCycle) as caught:
        build(draft_of(depends), LIMITS)
    assert caught.value.fields["cycle"] == named
    assert named in caught.value.message


def test_a_cycle_through_data_is_found(draft_of: DraftOf) -> None:
    with pytest.raises(DagCycle, match="a -> b -> a"):
        build(draft_of({"a": [], "b": ["a"]}, {"b": ([], ["x"]), "a": (["x"], [])}), LIMITS)


def test_the_name_of_a_very_long_cycle_is_shortened(draft_of: DraftOf) -> None:
    with pytest.raises(DagCycle) as caught:
        build(draft_of({f"t{at}": [f"t{(at - 1) % 5_000}"] for at in range(5_000)}), LIMITS)
    assert caught.value.fields["length"] == "5000"
    assert "t0 -> t1 -> " in caught.value.message
    assert "(4,988 more)" in caught.value.message
    assert len(caught.value.message) < 400


def test_an_unknown_dependency_is_named_with_what_may_be_meant(draft_of: DraftOf) -> None:
    with pytest.raises(
        UnknownDependency, match=r"'b' depends on 'inspect-weld'.*mean 'inspect-welds'"
    ) as caught:
        build(draft_of({"inspect-welds": [], "b": ["inspect-weld"]}), LIMITS)
    assert caught.value.fields["dependency"] == "inspect-weld"
    with pytest.raises(UnknownDependency) as caught:
        build(draft_of({"b": ["zzzzzzzzzzzzz"]}), LIMITS)
    assert caught.value.fields["close_matches"] == ""


def test_two_tasks_with_one_id_or_one_output_are_refused(draft_of: DraftOf) -> None:
    twin = TaskDraft(id="a", type="noop")
    with pytest.raises(DuplicateTaskId, match="tasks 1 and 3 have the same id 'a'"):
        build(DagDraft(DagHeader("d"), [twin, TaskDraft(id="b", type="noop"), twin]), LIMITS)
    with pytest.raises(DuplicateProducer, match="'a' and 'b' both declare the output 'x'"):
        build(draft_of({"a": [], "b": []}, {"a": ([], ["x"]), "b": ([], ["x"])}), LIMITS)


@pytest.mark.parametrize(
    "draft",
    [
        DagDraft(DagHeader("d"), []),
        DagDraft(DagHeader(""), [TaskDraft(id="a", type="noop")]),
        DagDraft(DagHeader("d", namespace=""), [TaskDraft(id="a", type="noop")]),
        DagDraft(DagHeader("d", deadline_ms=-1), [TaskDraft(id="a", type="noop")]),
        one(id=""),
        one(id="line\nbreak"),
        one(type=""),
        one(priority=5),
        one(priority=-1),
        one(timeout_ms=-1),
        one(deadline_ms=-1),
        one(expected_ms=-1),
        one(retry=RetryPolicy(max_attempts=0)),
        one(retry=RetryPolicy(delay_ms=-1)),
        one(inputs=(DataItem(""),)),
        one(outputs=(DataItem("x", -1),)),
        one(requirements=Requirements(resources=Resources(memory_bytes=-1))),
        one(requirements=Requirements(resources=Resources(memory_bytes=1 << 63))),
        one(requirements=Requirements(capabilities=(("", 1),))),
        one(requirements=Requirements(capabilities=(("weld", -1),))),
        one(requirements=Requirements(capabilities=(("weld", 1), ("weld", 2)))),
    ],
)
def test_what_no_state_of_the_cluster_would_make_right_is_refused(draft: DagDraft) -> None:
    with pytest.raises(InvalidRequest) as caught:
        build(draft, LIMITS)
    assert caught.value.reason == "INVALID_REQUEST"


@pytest.mark.parametrize(
    ("bound", "limit", "fields"),
    [
        ("max_payload_bytes", 3, {"payload": b"1234"}),
        ("max_dag_payload_bytes", 3, {"payload": b"1234"}),
        ("max_id_length", 3, {"id": "abcd"}),
        ("max_id_length", 3, {"type": "abcd"}),
        ("max_dependencies", 1, {"depends_on": ("x", "y")}),
        ("max_data_items", 1, {"inputs": (DataItem("x"),), "outputs": (DataItem("y"),)}),
        ("max_labels", 1, {"labels": (("a", "b"), ("c", "d"))}),
        ("max_label_bytes", 3, {"metadata": (("ab", "cd"),)}),
        ("max_requirements", 1, {"requirements": Requirements(capabilities=(("a", 1), ("b", 1)))}),
        ("max_attempts", 2, {"retry": RetryPolicy(max_attempts=3)}),
        ("max_delay_ms", 70_000, {"retry": RetryPolicy(delay_ms=70_001)}),
        ("max_timeout_ms", 10, {"timeout_ms": 11}),
    ],
)
def test_a_limit_is_named_with_its_setting_and_the_value(
    bound: str, limit: int, fields: dict[str, Any]
) -> None:
    limits = msgspec.structs.replace(LIMITS, **{bound: limit})
    with pytest.raises(LimitExceeded) as caught:
        build(one(**fields), limits)
    assert caught.value.fields["setting"] == f"limits.{bound}"
    assert caught.value.fields["limit"] == str(limit)
    assert int(caught.value.fields["value"]) > limit
    assert f"limits.{bound}" in caught.value.message


def test_tasks_and_edges_of_a_dag_are_limited(draft_of: DraftOf) -> None:
    draft = draft_of({"a": [], "b": ["a"], "c": ["a", "b"]})
    with pytest.raises(LimitExceeded, match=r"is 3, above the limit of 2 \(limits.max_dag_tasks\)"):
        build(draft, DagLimits(max_dag_tasks=2))
    with pytest.raises(LimitExceeded, match=r"is 3, above the limit of 2 \(limits.max_dag_edges\)"):
        build(draft, DagLimits(max_dag_edges=2))
    assert build(draft, DagLimits(max_dag_tasks=3, max_dag_edges=3)).block.ids == ["a", "b", "c"]


def test_a_large_dag_is_built_and_split_into_parts_that_make_it_up() -> None:
    total = 100_000
    tasks = [
        TaskDraft(
            id=f"t{at}",
            type=f"type{at % 5}",
            payload=b"{}",
            depends_on=tuple({f"t{at - back}" for back in (1, 7, 300) if back <= at}),
            labels=(("n", str(at)),) if at % 1_000 == 0 else (),
        )
        for at in range(total)
    ]
    tasks.reverse()
    built = build(DagDraft(DagHeader("d"), tasks), LIMITS)
    assert built.block.ids == [f"t{at}" for at in range(total)]
    assert sum(map(len, built.block.depends)) == 3 * total - 1 - 7 - 300
    assert len(built.profiles) == 5

    parts = split(built, max_tasks=3_000, max_bytes=100_000)
    assert [part.first for part in parts] == [
        sum(len(part.ids) for part in parts[:at]) for at in range(len(parts))
    ]
    for column in ("ids", "profiles", "depends", "payloads", "expected_ms"):
        assert [value for part in parts for value in getattr(part, column)] == getattr(built.block, column)
    joined = {part.first + at: extras for part in parts for at, extras in part.extras.items()}
    assert joined == built.block.extras
    assert all(len(part.ids) <= 3_000 and len(msgspec.msgpack.encode(part)) <= 100_000 for part in parts)


def test_a_task_larger_than_a_part_has_a_part_to_itself() -> None:
    tasks = [
        TaskDraft(id=name, type="t", payload=bytes(size)) for name, size in (("a", 1), ("b", 900), ("c", 1))
    ]
    parts = split(build(DagDraft(DagHeader("d"), tasks), LIMITS), max_tasks=10, max_bytes=500)
    assert [part.ids for part in parts] == [["a"], ["b"], ["c"]]


def test_additions_are_ordered_and_may_depend_on_what_is_there() -> None:
    drafts = [
        TaskDraft(id="second", type="t", depends_on=("first", "elsewhere"), inputs=(DataItem("x"),)),
        TaskDraft(id="first", type="t", outputs=(DataItem("x"),)),
    ]
    first, second = build_additions(drafts, DagHeader("d", priority=Priority.URGENT), 1, LIMITS)
    assert (first.id, first.depends_on, first.extras) == ("first", (), TaskExtras(outputs=(DataItem("x"),)))
    assert (second.id, second.depends_on) == ("second", ("first", "elsewhere"))
    assert second.profile.priority is Priority.URGENT


@pytest.mark.parametrize(
    ("drafts", "error"),
    [
        ([], InvalidRequest),
        ([TaskDraft(id="a", type="t"), TaskDraft(id="a", type="t")], DuplicateTaskId),
        ([TaskDraft(id="a", type="t", depends_on=("a",))], DagCycle),
        ([TaskDraft(id=f"{at}", type="t") for at in range(4)], LimitExceeded),
    ],
)
def test_additions_meet_the_same_errors(drafts: list[TaskDraft], error: type[CoordinatorError]) -> None:
    with pytest.raises(error):
        build_additions(drafts, DagHeader("d"), 7, DagLimits(max_dag_tasks=10))

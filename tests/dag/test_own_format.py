"""Our own workflow format: what each key becomes, in YAML as in JSON, and that every refusal names the place
and, for an unknown key, what may have been meant (B1, B4, C1)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordinator.core.model import (
    Backoff,
    DagHeader,
    DataItem,
    FailurePolicy,
    FamilyNeeds,
    Priority,
    Requirements,
    Resources,
    RetryPolicy,
    TaskFamily,
)
from coordinator.dag.builder import build
from coordinator.dag.draft import DagDraft, TaskDraft
from coordinator.dag.formats.detect import parse
from coordinator.dag.limits import DagLimits
from coordinator.errors import InvalidRequest, UnreadableWorkflow

EXAMPLES = Path(__file__).parents[2] / "examples"

EVERYTHING = """
id: dag-1
name: everything
namespace: lab
failure_policy: fail-fast
policy: green
priority: urgent
deadline: 2026-01-31T12:00:00Z
labels: {site: north}
metadata: {order: "42"}
defaults:
  type: weld
  family: hybrid
  timeout: 2m
  retry: {attempts: 3, backoff: exponential, delay: 200ms, max_delay: 5}
tasks:
  - id: a
    payload: {text: "ä", none: null, numbers: [1, 2.5, -3, 1e3, .5], no: no}
    outputs: [part, {name: film, size: 1.5MB, locations: [zone-1, agent-2]}]
    requires:
      capabilities: {weld: 4, paint: 1}
      labels: {zone: north}
      anti_affinity: [welding]
      resources: {cores: 0.5, memory: 2GiB, gpu_memory: 1024, disk: 3kB, bandwidth: 10MB/s}
      model: {name: resnet, version: "50", batchable: true}
      tool: torch
      permissions: [read, write]
      environment: linux
      data_location: zone-1
      max_latency: 5ms
      protocol: mqtt
  - id: b
    type: paint
    depends_on: [a]
    inputs: [part]
    requires: {model: bert}
    priority: low
    deadline: 2026-01-31 13:30+01:00
    timeout: 1.5
    retry: {attempts: 2}
    expected: 0.2ms
    labels: {k: v}
    metadata: {b: "2", a: "1"}
    parent: a
    preemptible: true
"""

EXPECTED = DagDraft(
    DagHeader(
        dag_id="dag-1",
        namespace="lab",
        name="everything",
        failure_policy=FailurePolicy.FAIL_FAST,
        priority=Priority.URGENT,
        deadline_ms=1_769_860_800_000,
        labels={"site": "north"},
        metadata={"order": "42"},
        policy="green",
    ),
    [
        TaskDraft(
            id="a",
            type="weld",
            family=TaskFamily.HYBRID,
            payload='{"text":"ä","none":null,"numbers":[1,2.5,-3,1000.0,0.5],"no":"no"}'.encode(),
            outputs=(DataItem("part"), DataItem("film", 1_500_000, ("zone-1", "agent-2"))),
            requirements=Requirements(
                resources=Resources(500, 2 << 30, 1_024, 3_000, 10_000_000),
                capabilities=(("paint", 1), ("weld", 4)),
                labels=(("zone", "north"),),
                anti_affinity=("welding",),
                needs=FamilyNeeds(
                    "resnet", "50", True, "torch", ("read", "write"), "linux", "zone-1", 5, "mqtt"
                ),
            ),
            timeout_ms=120_000,
            retry=RetryPolicy(3, Backoff.EXPONENTIAL, 200, 5_000),
        ),
        TaskDraft(
            id="b",
            type="paint",
            family=TaskFamily.HYBRID,
            depends_on=("a",),
            inputs=(DataItem("part"),),
            requirements=Requirements(needs=FamilyNeeds(model="bert")),
            priority=Priority.LOW,
            deadline_ms=1_769_862_600_000,
            timeout_ms=1_500,
            retry=RetryPolicy(2),
            expected_ms=1,
            labels=(("k", "v"),),
            metadata=(("a", "1"), ("b", "2")),
            parent_id="a",
            preemptible=True,
        ),
    ],
)


def test_every_key_arrives() -> None:
    assert parse(EVERYTHING, name="file") == EXPECTED


def test_json_says_the_same_as_yaml() -> None:
    document = {"name": "j", "tasks": [{"id": "a", "type": "t", "payload": [1, "x", None], "timeout": "2s"}]}
    as_json = parse("\ufeff " + json.dumps(document), name="file")
    as_yaml = parse("name: j\ntasks:\n- {id: a, type: t, payload: [1, x, null], timeout: 2s}\n", name="file")
    assert as_json == as_yaml
    assert as_json.tasks[0].payload == b'[1,"x",null]'


def test_what_is_left_out_has_its_default() -> None:
    draft = parse("tasks: [{id: a, type: t}]", name="the-file")
    assert draft == DagDraft(DagHeader(dag_id="", name="the-file"), [TaskDraft(id="a", type="t")])


@pytest.mark.parametrize(
    ("yaml", "place", "complaint"),
    [
        ("tasks: [{id: a, type: t, depend_on: [b]}]", "tasks[0].depend_on", "did you mean depends_on?"),
        ("task: []\ntasks: []", "task", "did you mean tasks"),
        ("tasks: []\nxyzzy: 1", "xyzzy", "known are id, name, namespace"),
        ("tasks: [{id: a, type: t, retry: {atempts: 1}}]", "tasks[0].retry.atempts", "mean attempts?"),
        ("defaults: {id: a}\ntasks: []", "defaults.id", "there is no such key"),
        ("tasks: [{type: t}]", "tasks[0]", "the key 'id' is missing"),
        ("tasks: [{id: a}]", "tasks[0]", "the key 'type' is missing"),
        ("tasks: [{id: 7, type: t}]", "tasks[0].id", "must be a text"),
        ("tasks: [a]", "tasks[0]", 'must be an object with keys, and is "a"'),
        ("tasks: {}", "tasks", "must be a list"),
        ("tasks: [{id: a, type: t, timeout: 30 parsecs}]", "tasks[0].timeout", "a duration such as"),
        ("tasks: [{id: a, type: t, timeout: -1}]", "tasks[0].timeout", "from 0 to"),
        ("tasks: [{id: a, type: t, timeout: true}]", "tasks[0].timeout", "a duration such as"),
        (
            "tasks: [{id: a, type: t, requires: {resources: {memory: 2 GIB}}}]",
            "tasks[0].requires.resources.memory",
            "GiB",
        ),
        (
            "tasks: [{id: a, type: t, requires: {resources: {bandwidth: 2GB}}}]",
            "tasks[0].requires.resources.bandwidth",
            "10MB/s",
        ),
        (
            "tasks: [{id: a, type: t, requires: {resources: {cores: two}}}]",
            "tasks[0].requires.resources.cores",
            "a number",
        ),
        (
            "tasks: [{id: a, type: t, requires: {capabilities: {weld: 1.5}}}]",
            "tasks[0].requires.capabilities.weld",
            "whole number",
        ),
        (
            "tasks: [{id: a, type: t, requires: {model: {version: '1'}}}]",
            "tasks[0].requires.model",
            "'name' is missing",
        ),
        (
            "tasks: [{id: a, type: t, priority: highest}]",
            "tasks[0].priority",
            "one of low, medium, high, urgent",
        ),
        (
            "tasks: [{id: a, type: t, deadline: 2026-02-30T12:00:00Z}]",
            "tasks[0].deadline",
            "a time with its zone",
        ),
        (
            "tasks: [{id: a, type: t, deadline: 2026-02-20T12:00:00}]",
            "tasks[0].deadline",
            "a time with its zone",
        ),
        ("tasks: [{id: a, type: t, preemptible: yes}]", "tasks[0].preemptible", "true or false"),
        ("tasks: [{id: a, type: t, labels: {k: 1}}]", "tasks[0].labels.k", "must be a text"),
        ("tasks: [{id: a, type: t, labels: [k]}]", "tasks[0].labels", "must be an object"),
        ("tasks: [{id: a, type: t, inputs: [{size: 1}]}]", "tasks[0].inputs[0]", "'name' is missing"),
        ("steps: []", "", "neither `tasks`"),
        ("just text", "", "neither `tasks`"),
        ("", "", "neither `tasks`"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(yaml: str, place: str, complaint: str) -> None:
    with pytest.raises(UnreadableWorkflow) as caught:
        parse(yaml, name="line.yaml")
    assert caught.value.fields == {"file": "line.yaml", "place": place}
    assert caught.value.message.startswith(f"line.yaml: {place}")
    assert complaint in caught.value.message


@pytest.mark.parametrize(
    ("text", "place", "complaint"),
    [
        ("tasks:\n  - id: a\n   type: t", "line 3, column 4", "not YAML"),
        ("tasks: [1", "line 2, column 1", "not YAML"),
        ("tasks: []\ntasks: []", "line 2, column 1", "the key 'tasks' occurs twice"),
        ("tasks: &x []", "line 1, column 8", "anchors"),
        ("a: 1\ntasks: *x", "line 2, column 8", ""),
        ("tasks: !!set {a}", "line 1, column 8", "the tag"),
        ("tasks: !x y", "line 1, column 8", "the tag"),
        ("tasks: []\n---\ntasks: []", "line 2, column 1", "a second document"),
        ("{a: 1}: 2", "line 1, column 2", "not JSON"),
        ("? {a: 1}\n: 2", "line 1, column 3", "a key must be a text"),
        ("tasks: \x00", "", "not YAML"),
        ("x: " + "[" * 500, "line 1, column 67", "nested more than 64 deep"),
        ('{"tasks": [}', "line 1, column 12", "not JSON"),
        ('{"a": 1, "a": 2}', "an object with a, a", "occurs twice"),
        ('{"tasks": NaN}', "the number NaN", "no such value"),
        ('{"tasks": ' + "[" * 100_000, "", "nested too deeply"),
        ('{"tasks": ' + "9" * 5_000 + "}", "", "not readable"),
        ('{"tasks": [{"id": "\\ud800", "type": "t"}]}', "tasks[0].id", "surrogate"),
        (
            '{"tasks": [{"id": "a", "type": "t", "payload": "\\ud800"}]}',
            "tasks[0].payload",
            "cannot be written",
        ),
    ],
)
def test_text_that_cannot_be_read_is_refused_where_it_goes_wrong(
    text: str, place: str, complaint: str
) -> None:
    with pytest.raises(UnreadableWorkflow) as caught:
        parse(text, name="f")
    assert caught.value.fields["place"] == place
    assert complaint in caught.value.message
    assert len(caught.value.message) < 300


def test_yaml_that_is_nested_beyond_what_its_parser_takes_is_refused() -> None:
    """Some versions of the parser have a limit of their own, and look ahead for more than ours."""
    with pytest.raises(UnreadableWorkflow, match="nest"):
        parse("x: " + "[" * 100_000, name="f")


@pytest.mark.parametrize("speedup", [0.0, -1.0, float("nan"), float("inf")])
def test_a_speedup_must_be_above_zero(speedup: float) -> None:
    with pytest.raises(InvalidRequest, match="above zero"):
        parse("tasks: [{id: a, type: t}]", name="f", speedup=speedup)


@pytest.mark.parametrize(
    ("file", "tasks", "edges"),
    [
        ("minimal.yaml", 3, 2),
        ("retry-and-cancel.yaml", 4, 1),
        ("skills-and-resources.json", 2, 1),
        ("assembly-line.yaml", 47, 75),
    ],
)
def test_the_examples_can_be_submitted(file: str, tasks: int, edges: int) -> None:
    draft = parse((EXAMPLES / file).read_text(encoding="utf-8"), name=file)
    draft.header.dag_id = "d"
    block = build(draft, DagLimits()).block
    assert (len(block.ids), sum(map(len, block.depends))) == (tasks, edges)


def test_the_assembly_line_needs_several_skills_and_repeats_its_inspections() -> None:
    draft = parse((EXAMPLES / "assembly-line.yaml").read_text(encoding="utf-8"), name="line")
    skills = {name for task in draft.tasks for name, _ in task.requirements.capabilities}
    assert skills == {"weld", "paint", "assemble", "inspect", "transport"}
    assert all(200 <= task.expected_ms <= 3_000 for task in draft.tasks)
    assert all(
        json.loads(task.payload)["seconds"] * 1_000 == pytest.approx(task.expected_ms) for task in draft.tasks
    )
    inspections = [task for task in draft.tasks if task.type == "inspect"]
    assert len(inspections) == 5
    assert all(task.retry == RetryPolicy(3, Backoff.EXPONENTIAL, 100, 1_000) for task in inspections)

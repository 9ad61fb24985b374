"""WfFormat 1.4 and 1.5: structure, files, run times and speedup; and the traces of ../shared where they are
present, whose tasks and edges are known (C1)."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from coordinator.core.model import DataItem
from coordinator.dag.builder import build
from coordinator.dag.draft import DagDraft
from coordinator.dag.formats.detect import parse
from coordinator.dag.limits import DagLimits
from coordinator.errors import UnreadableWorkflow

INSTANCES = Path(__file__).parents[3] / "shared" / "data" / "wfinstances"

TRACES = [
    ("srasearch-chameleon-10a-003", 22, 30, 18_986),
    ("hic-dirt02-001", 38, 47, 577),
    ("epigenomics-chameleon-hep-1seq-100k-001", 41, 48, 539),
    ("1000genome-chameleon-2ch-100k-001", 52, 76, 2_771),
    ("montage-chameleon-2mass-01d-001", 103, 231, 363),
    ("soykb-chameleon-10fastq-20ch-001", 156, 354, 24_451),
    ("rnaseq-dirt02-001", 197, 451, 2_580),
    ("cycles-chameleon-5l-1c-9p-001", 331, 485, 10_516),
    ("bwa-chameleon-large-001", 1_004, 4_000, 13_277),
    ("montage-chameleon-dss-15d-001", 2_122, 6_114, 78_088),
]

SPLIT: dict[str, Any] = {
    "name": "two-steps",
    "schemaVersion": "1.5",
    "workflow": {
        "specification": {
            "tasks": [
                {
                    "name": "read_ID01",
                    "id": "read_ID01",
                    "parents": [],
                    "children": ["sum_ID02"],
                    "outputFiles": ["x"],
                },
                {
                    "name": "sum_ID02",
                    "id": "sum_ID02",
                    "parents": [],
                    "children": [],
                    "inputFiles": ["raw", "log"],
                    "outputFiles": ["log"],
                },
                {
                    "name": "plot_ID03",
                    "id": "plot_ID03",
                    "parents": ["sum_ID02"],
                    "children": [],
                    "inputFiles": ["x"],
                },
            ],
            "files": [{"id": "x", "sizeInBytes": 10}, {"id": "raw", "sizeInBytes": 20.0}],
        },
        "execution": {
            "makespanInSeconds": 9,
            "executedAt": "",
            "tasks": [
                {
                    "id": "read_ID01",
                    "runtimeInSeconds": 3,
                    "command": {"program": "read\n  --all", "arguments": []},
                },
                {"id": "sum_ID02", "runtimeInSeconds": 1_000.5},
            ],
        },
    },
}

INLINE: dict[str, Any] = {
    "name": "inline",
    "schemaVersion": "1.4",
    "workflow": {
        "makespanInSeconds": 9,
        "executedAt": "",
        "tasks": [
            {
                "name": "read_ID01",
                "id": "ID01",
                "category": "reader",
                "runtimeInSeconds": 3,
                "children": ["ID02"],
                "files": [{"link": "output", "path": "/tmp/", "name": "x", "sizeInBytes": 10}],
            },
            {
                "name": "sum_ID02",
                "id": "ID02",
                "runtimeInSeconds": 0.5,
                "parents": [],
                "files": [{"link": "Input", "name": "raw", "sizeInBytes": 20}],
            },
            {
                "name": "plot_3",
                "runtimeInSeconds": 2,
                "parents": ["sum_ID02"],
                "files": [{"link": "input", "path": "/tmp/", "name": "x", "sizeInBytes": 10}],
            },
        ],
    },
}


def read(document: dict[str, Any], speedup: float = 1.0) -> DagDraft:
    return parse(json.dumps(document), name="trace.json", speedup=speedup)


def edges_of(draft: DagDraft) -> set[tuple[str, str]]:
    draft.header.dag_id = "d"
    block = build(draft, DagLimits()).block
    return {
        (block.ids[before], block.ids[at]) for at, depends in enumerate(block.depends) for before in depends
    }


def test_a_task_that_took_days_is_given_as_long_as_any_may_take() -> None:
    week_ms = DagLimits().max_timeout_ms
    for took_ms, timeout_ms in ((week_ms // 2, week_ms), (week_ms, week_ms), (week_ms + 1, week_ms + 1)):
        document = copy.deepcopy(SPLIT)
        document["workflow"]["execution"]["tasks"][0]["runtimeInSeconds"] = took_ms / 1_000
        assert read(document).tasks[0].timeout_ms == timeout_ms


def test_split_structure_and_run_are_brought_together() -> None:
    draft = read(SPLIT, speedup=2.0)
    first, second, third = draft.tasks
    assert (draft.header.name, draft.header.metadata) == ("two-steps", {"format": "WfFormat 1.5"})
    assert [task.type for task in draft.tasks] == ["sleep"] * 3
    assert (first.payload, first.expected_ms, first.timeout_ms) == (b'{"seconds":1.5}', 1_500, 300_000)
    assert (second.payload, second.expected_ms, second.timeout_ms) == (
        b'{"seconds":500.25}',
        500_250,
        2_001_000,
    )
    assert (third.payload, third.expected_ms) == (b'{"seconds":0.0}', 1)
    assert first.metadata == (("category", "read"), ("program", "read"))
    assert first.outputs == third.inputs == (DataItem("x", 10),)
    # What it reads and writes is its output, and no cycle.
    assert (second.inputs, second.outputs) == ((DataItem("raw", 20),), (DataItem("log"),))


def test_edges_come_from_parents_children_and_files() -> None:
    edges = {("read_ID01", "sum_ID02"), ("sum_ID02", "plot_ID03"), ("read_ID01", "plot_ID03")}
    assert edges_of(read(SPLIT)) == edges


def test_inline_structure_refers_by_name_or_id_and_keeps_ids() -> None:
    draft = read(INLINE)
    assert [task.id for task in draft.tasks] == ["ID01", "ID02", "plot_3"]
    assert [dict(task.metadata)["category"] for task in draft.tasks] == ["reader", "sum", "plot"]
    assert draft.tasks[0].outputs == draft.tasks[2].inputs == (DataItem("/tmp/x", 10),)
    assert draft.tasks[1].inputs == (DataItem("raw", 20),)
    assert edges_of(draft) == {("ID01", "ID02"), ("ID02", "plot_3"), ("ID01", "plot_3")}


def changed(document: dict[str, Any], path: list[str | int], value: object) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(document))
    target: Any = copy
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    return copy


@pytest.mark.parametrize(
    ("document", "path", "value", "place", "complaint"),
    [
        (SPLIT, ["schemaVersion"], "1.3", "schemaVersion", "one of 1.4, 1.5, 1.6"),
        (SPLIT, ["workflow"], [], "workflow", "an object"),
        (SPLIT, ["workflow", "specification"], {}, "workflow.specification", "'tasks' is missing"),
        (
            SPLIT,
            ["workflow", "specification", "tasks", 1],
            {},
            "workflow.specification.tasks[1]",
            "'id' is missing",
        ),
        (
            SPLIT,
            ["workflow", "specification", "tasks", 2, "parents", 0],
            "zzz",
            "workflow.specification.tasks[2].parents[0]",
            "no task 'zzz'",
        ),
        (
            SPLIT,
            ["workflow", "specification", "tasks", 0, "children", 0],
            "zzz",
            "workflow.specification.tasks[0].children[0]",
            "no task 'zzz'",
        ),
        (
            SPLIT,
            ["workflow", "execution", "tasks", 0, "runtimeInSeconds"],
            -1,
            "workflow.execution.tasks[0].runtimeInSeconds",
            "a number from 0",
        ),
        (
            SPLIT,
            ["workflow", "specification", "files", 0, "sizeInBytes"],
            "big",
            "workflow.specification.files[0].sizeInBytes",
            "a number from 0",
        ),
        (
            INLINE,
            ["workflow", "tasks", 0, "name"],
            "sum_ID02",
            "workflow.tasks[2].parents[0]",
            "several tasks",
        ),
        (
            INLINE,
            ["workflow", "tasks", 0, "files", 0, "link"],
            "through",
            "workflow.tasks[0].files[0].link",
            '"input" or "output"',
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    document: dict[str, Any], path: list[str | int], value: object, place: str, complaint: str
) -> None:
    with pytest.raises(UnreadableWorkflow) as caught:
        read(changed(document, path, value))
    assert caught.value.fields["place"] == place
    assert complaint in caught.value.message


@pytest.mark.skipif(not INSTANCES.is_dir(), reason="the recorded workflows of ../shared are not here")
@pytest.mark.parametrize(("name", "tasks", "edges", "seconds"), TRACES)
def test_recorded_workflows_have_their_tasks_edges_and_run_time(
    name: str, tasks: int, edges: int, seconds: int
) -> None:
    draft = parse((INSTANCES / f"{name}.json").read_text(encoding="utf-8"), name=name)
    draft.header.dag_id = name
    block = build(draft, DagLimits()).block
    assert (len(block.ids), sum(map(len, block.depends))) == (tasks, edges)
    assert sum(json.loads(payload)["seconds"] for payload in block.payloads) == pytest.approx(
        seconds, abs=0.6
    )

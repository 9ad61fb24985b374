"""Recorded workflows as columns: sizes by edge, types, run times as they are in the trace; and what happens
to files that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.placement.instances import SHORTEST_S, instance_of, read_folder, read_instance

TRACE: dict[str, Any] = {
    "name": "split",
    "schemaVersion": "1.5",
    "workflow": {
        "specification": {
            "tasks": [
                # Listed before what it waits for.
                {"id": "sum_ID02", "parents": ["read_ID01"], "children": [], "inputFiles": ["a", "b", "raw"]},
                {"id": "read_ID01", "parents": [], "children": ["end_ID03"], "outputFiles": ["a", "b", "c"]},
                {"id": "end_ID03", "parents": ["sum_ID02"], "children": []},
            ],
            "files": [
                {"id": "a", "sizeInBytes": 10},
                {"id": "b", "sizeInBytes": 20},
                {"id": "c", "sizeInBytes": 400},
                {"id": "raw", "sizeInBytes": 5},
            ],
        },
        "execution": {
            "makespanInSeconds": 9,
            "executedAt": "",
            "tasks": [
                {"id": "read_ID01", "runtimeInSeconds": 1.23456},
                {"id": "sum_ID02", "runtimeInSeconds": 7},
                {"id": "end_ID03", "runtimeInSeconds": 0},
            ],
        },
    },
}


def test_a_trace_has_its_columns_in_topological_order(tmp_path: Path) -> None:
    path = tmp_path / "split-site-001.json"
    path.write_text(json.dumps(TRACE))
    instance = read_instance(path)
    assert (instance.name, instance.application, len(instance)) == ("split-site-001", "split", 3)
    assert instance.types == ["read", "sum", "end"]
    assert instance.work.tolist() == [1.23456, 7.0, SHORTEST_S]
    assert instance.depends == [(), (0,), (0, 1)]
    assert instance.successors == [(1, 2), (2,), ()]
    # What the child does not read does not travel.
    assert instance.edge_bytes == [(), (30,), (0, 0)]
    assert instance.input_bytes == [0, 35, 0]


def test_what_cannot_be_read_is_reported_and_the_rest_is_there(tmp_path: Path) -> None:
    (tmp_path / "b-good.json").write_text(json.dumps(TRACE))
    (tmp_path / "cut.json").write_text(json.dumps(TRACE)[:-9])
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe{")
    cyclic = json.loads(json.dumps(TRACE))
    cyclic["workflow"]["specification"]["tasks"][2]["children"] = ["read_ID01"]
    (tmp_path / "cyclic.json").write_text(json.dumps(cyclic))
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "README.md").write_text("no trace")
    instances, unreadable = read_folder(tmp_path)
    assert [instance.name for instance in instances] == ["b-good"]
    assert [one.file for one in unreadable] == ["bytes.json", "cut.json", "cyclic.json", "folder.json"]
    assert "cycle" in unreadable[2].reason
    assert all(one.reason for one in unreadable)


@pytest.mark.parametrize("depends", [[(0,)], [(1,), ()], [(), (-1,)]])
def test_an_instance_is_in_topological_order(depends: list[tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="give indexes below its own"):
        instance_of("x", work=[1.0] * len(depends), depends=depends, edge_bytes=[(0,) for _ in depends])


def test_recorded_workflows_are_read_from_the_smallest_on(data: Path) -> None:
    instances, unreadable = read_folder(data / "wfinstances")
    assert unreadable == []
    sizes = [len(instance) for instance in instances]
    assert sizes == sorted(sizes)
    assert {instance.application for instance in instances} >= {"montage", "bwa", "1000genome"}
    assert all(all(instance.types) for instance in instances)

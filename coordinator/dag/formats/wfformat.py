"""WfFormat of the WfCommons project, 1.4 and 1.5: recorded runs of scientific workflows, replayed as tasks
that sleep.

Version 1.5 keeps the structure in `workflow.specification` and the run in `workflow.execution`; 1.6 adds
nothing that matters here. Version 1.4 has both in `workflow.tasks`, where tasks name each other by name or
id, and files stand inline with a link of "input" or "output". Schema: https://github.com/wfcommons/WfFormat.
Edges are those of parents and children and those of the files; ids, file names and sizes are kept. A file
that a task both reads and writes is its output.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from coordinator.core.model import DagHeader, DataItem, TaskFamily
from coordinator.dag.draft import DagDraft, TaskDraft
from coordinator.dag.formats.readers import (
    Reader,
    Table,
    amount,
    as_is,
    json_bytes,
    known_fields,
    list_of,
    text,
    unreadable,
    wrong,
)
from coordinator.dag.limits import DagLimits

VERSIONS: Final = ("1.4", "1.5", "1.6")

TASK_TYPE: Final = "sleep"
"""The built-in handler that waits for `seconds` of its payload."""

_TIMEOUT_FACTOR: Final = 4
_LEAST_TIMEOUT_MS: Final = 300_000
_MOST_TIMEOUT_MS: Final = DagLimits().max_timeout_ms
_PROGRAM_LENGTH: Final = 120
_NUMBERING: Final = re.compile(r"_(ID)?[0-9]+$")


class _TracedTask(msgspec.Struct):
    """A task of either version. `parents` and `children` are as written, ids or names; files are (name,
    bytes)."""

    place: str
    id: str
    name: str
    category: str
    program: str
    seconds: float
    parents: tuple[str, ...]
    children: tuple[str, ...]
    inputs: list[DataItem]
    outputs: list[DataItem]


def read(document: dict[str, Any], name: str, speedup: float) -> DagDraft:
    """The draft; run times are divided by `speedup`. Raises UnreadableWorkflow."""
    top = known_fields(document, "", _TOP, required=("schemaVersion",))
    if top["version"] not in VERSIONS:
        raise wrong("schemaVersion", f"one of {', '.join(VERSIONS)}", top["version"])
    workflow = top["workflow"]
    split = isinstance(workflow, dict) and "specification" in workflow
    traced = _read_split(workflow) if split else _read_inline(workflow)
    metadata = {"format": f"WfFormat {top['version']}"}
    header = DagHeader(dag_id="", name=top.get("name") or name, metadata=metadata)
    dependencies = _resolve(traced)
    return DagDraft(
        header, [_draft(task, before, speedup) for task, before in zip(traced, dependencies, strict=True)]
    )


def _read_split(workflow: dict[str, Any]) -> list[_TracedTask]:
    """1.5 and later."""
    parts = known_fields(workflow, "workflow", _SPLIT)
    specification, execution = parts["specification"], parts.get("execution", {})
    sizes = {file["id"]: file.get("size", 0) for file in specification.get("files", ())}
    runs = {run["id"]: run for run in execution.get("tasks", ())}
    result = []
    for at, task in enumerate(specification["tasks"]):
        run = runs.get(task["id"], {})
        outputs = task.get("outputs", ())
        result.append(
            _TracedTask(
                place=f"workflow.specification.tasks[{at}]",
                id=task["id"],
                name=task.get("name", task["id"]),
                category=_NUMBERING.sub("", task.get("name", task["id"])),
                program=run.get("command", ""),
                seconds=run.get("seconds", 0.0),
                parents=task.get("parents", ()),
                children=task.get("children", ()),
                inputs=_items(set(task.get("inputs", ())) - set(outputs), sizes),
                outputs=_items(set(outputs), sizes),
            )
        )
    return result


def _read_inline(workflow: object) -> list[_TracedTask]:
    """1.4."""
    parts = known_fields(workflow, "workflow", _INLINE, required=("tasks",))
    result = []
    for at, task in enumerate(parts["tasks"]):
        links: dict[str, dict[str, int]] = {"input": {}, "output": {}}
        for link, file, size in task.get("files", ()):
            links[link][file] = size
        written = links["output"]
        result.append(
            _TracedTask(
                place=f"workflow.tasks[{at}]",
                id=task.get("id") or task["name"],
                name=task["name"],
                category=task.get("category") or _NUMBERING.sub("", task["name"]),
                program=task.get("command", ""),
                seconds=task.get("seconds", 0.0),
                parents=task.get("parents", ()),
                children=task.get("children", ()),
                inputs=_items(links["input"].keys() - written.keys(), links["input"]),
                outputs=_items(written.keys(), written),
            )
        )
    return result


def _resolve(traced: Sequence[_TracedTask]) -> list[list[str]]:
    """Per task, the ids of its parents, from both ends of every edge."""
    positions = {task.id: at for at, task in enumerate(traced)}
    named: dict[str, int] = {}
    for at, task in enumerate(traced):
        named[task.name] = -1 if task.name in named else at

    def find(reference: str, place: str) -> int:
        position = positions.get(reference, named.get(reference))
        if position is None:
            raise unreadable(place, f"there is no task {reference!r} in the workflow")
        if position < 0:
            raise unreadable(place, f"several tasks are named {reference!r}: refer to them by id")
        return position

    parents: list[list[str]] = [[] for _ in traced]
    for at, task in enumerate(traced):
        for number, reference in enumerate(task.parents):
            parents[at].append(traced[find(reference, f"{task.place}.parents[{number}]")].id)
        for number, reference in enumerate(task.children):
            parents[find(reference, f"{task.place}.children[{number}]")].append(task.id)
    return [list(dict.fromkeys(ids)) for ids in parents]


def _draft(task: _TracedTask, dependencies: Iterable[str], speedup: float) -> TaskDraft:
    seconds = round(task.seconds / speedup, 6)
    expected_ms = max(1, round(seconds * 1_000))
    metadata = {"category": task.category, "program": task.program}
    return TaskDraft(
        id=task.id,
        type=TASK_TYPE,
        family=TaskFamily.COMPUTE,
        payload=json_bytes({"seconds": seconds}, task.place),
        depends_on=tuple(dependencies),
        inputs=tuple(task.inputs),
        outputs=tuple(task.outputs),
        timeout_ms=_timeout_ms(expected_ms),
        expected_ms=expected_ms,
        metadata=tuple((key, value) for key, value in metadata.items() if value),
    )


def _timeout_ms(expected_ms: int) -> int:
    """A recorded task may run for longer than the default timeout allows. One that lasts longer than any may
    is left to the check of limits."""
    ample_ms = min(_TIMEOUT_FACTOR * expected_ms, _MOST_TIMEOUT_MS)
    return max(_LEAST_TIMEOUT_MS, ample_ms, expected_ms)


def _items(names: Iterable[str], sizes: dict[str, int]) -> list[DataItem]:
    return [DataItem(name, sizes.get(name, 0)) for name in sorted(names)]


def _whole(value: object, place: str) -> int:
    return round(amount(value, place))


def _program(value: object, place: str) -> str:
    """The first line of a command's program, which may be a whole script."""
    program: str = known_fields(value, place, {"program": ("program", text)}).get("program", "")
    return program.strip().partition("\n")[0][:_PROGRAM_LENGTH]


def _file(value: object, place: str) -> tuple[str, str, int]:
    """An inline file: (link, name with its path, bytes)."""
    file = known_fields(value, place, _INLINE_FILE, required=("link", "name"))
    link = file["link"].lower()
    if link not in ("input", "output"):
        raise wrong(f"{place}.link", '"input" or "output"', file["link"])
    return link, file.get("path", "") + file["name"], file.get("size", 0)


def _each(table: Table, *required: str) -> Reader[tuple[dict[str, Any], ...]]:
    """A list of objects."""

    def read_one(value: object, place: str) -> dict[str, Any]:
        return known_fields(value, place, table, required=required)

    return list_of(read_one)


def _specification(value: object, place: str) -> dict[str, Any]:
    return known_fields(value, place, _SPECIFICATION, required=("tasks",))


def _execution(value: object, place: str) -> dict[str, Any]:
    return known_fields(value, place, _EXECUTION)


_NAMES: Final = list_of(text)
_TOP: Final[Table] = {
    "schemaVersion": ("version", text),
    "name": ("name", text),
    "workflow": ("workflow", as_is),
}
_LINKS: Final[Table] = {"id": ("id", text), "parents": ("parents", _NAMES), "children": ("children", _NAMES)}
_RUN: Final[Table] = {"runtimeInSeconds": ("seconds", amount), "command": ("command", _program)}
_FILE: Final[Table] = {"id": ("id", text), "sizeInBytes": ("size", _whole)}
_SPECIFIED_TASK: Final[Table] = {
    **_LINKS,
    "name": ("name", text),
    "inputFiles": ("inputs", _NAMES),
    "outputFiles": ("outputs", _NAMES),
}
_SPECIFICATION: Final[Table] = {
    "tasks": ("tasks", _each(_SPECIFIED_TASK, "id")),
    "files": ("files", _each(_FILE, "id")),
}
_EXECUTION: Final[Table] = {"tasks": ("tasks", _each({"id": ("id", text), **_RUN}, "id"))}
_SPLIT: Final[Table] = {
    "specification": ("specification", _specification),
    "execution": ("execution", _execution),
}
_INLINE_FILE: Final[Table] = {
    "link": ("link", text),
    "name": ("name", text),
    "path": ("path", text),
    "sizeInBytes": ("size", _whole),
}
_INLINE_TASK: Final[Table] = {
    **_LINKS,
    **_RUN,
    "name": ("name", text),
    "category": ("category", text),
    "files": ("files", list_of(_file)),
}
_INLINE: Final[Table] = {"tasks": ("tasks", _each(_INLINE_TASK, "name"))}

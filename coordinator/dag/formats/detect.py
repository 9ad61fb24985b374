"""Which format a workflow file is in, by its content."""

from __future__ import annotations

import math

from coordinator.dag.draft import DagDraft
from coordinator.dag.formats import own, wfformat
from coordinator.dag.formats.json_text import read_json
from coordinator.dag.formats.readers import unreadable
from coordinator.dag.formats.yaml_text import read_yaml
from coordinator.errors import InvalidRequest, UnreadableWorkflow


def parse(text: str, *, name: str, speedup: float = 1.0) -> DagDraft:
    """The draft that a workflow file describes; its DAG id is empty where the file gives none.

    Text that begins with "{" is JSON, any other YAML. A `workflow` makes it WfFormat, `tasks` our own format.
    `name` stands in errors, and is the DAG's name where the file gives none. `speedup` divides the run times
    of a trace (WfFormat); our own format says itself how long its tasks take.

    Raises:
        UnreadableWorkflow: with `file` and `place` (line and column, or a path like "tasks[3].retry") in its
        fields. InvalidRequest: `speedup` is not above zero.
    """
    if not (math.isfinite(speedup) and speedup > 0):
        raise InvalidRequest(f"the speedup is {speedup}: give a number above zero", value=speedup)
    text = text.removeprefix("\ufeff")
    try:
        document = read_json(text) if text.lstrip()[:1] == "{" else read_yaml(text)
        return _read(document, name, speedup)
    except UnreadableWorkflow as error:
        place = error.fields["place"]
        raise UnreadableWorkflow(f"{name}: {error.message}", file=name, place=place) from error


def _read(document: object, name: str, speedup: float) -> DagDraft:
    if isinstance(document, dict) and "workflow" in document:
        return wfformat.read(document, name, speedup)
    if isinstance(document, dict) and "tasks" in document:
        return own.read(document, name)
    raise unreadable(
        "", "it has neither `tasks` (a workflow of our own format) nor `workflow` (WfFormat) at its top"
    )

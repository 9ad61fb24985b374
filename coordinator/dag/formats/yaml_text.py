"""YAML text to plain values: the JSON subset of YAML 1.2 in block or flow style, errors with line and column.

Built from the parser's events, without recursion and without object construction, so that no text can exhaust
the stack, expand itself (anchors and aliases are refused; `defaults` does their work) or turn "no" into a
boolean and a date into an object: a plain scalar is null, true, false, a number or a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

from coordinator.dag.formats.readers import unreadable

MAX_DEPTH: Final = 64
"""Values nested more deeply are refused."""

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONSTANTS: Final[dict[str, object]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,4000}")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")


def read_yaml(text: str) -> object:
    """The one document of the text. Raises UnreadableWorkflow."""
    try:
        return _Document(yaml.parse(text, Loader=_LOADER)).value
    except yaml.MarkedYAMLError as error:
        raise unreadable(_place(error.problem_mark), f"not YAML: {error.problem or error}") from None
    except yaml.YAMLError as error:
        raise unreadable("", f"not YAML: {error}") from None


class _Document:
    """Collections that are open stand on a stack, each with the key that its next value belongs to."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self.value: object = None
        self._open: list[Any] = []
        self._keys: list[str | None] = []
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise unreadable(
                        _place(event.start_mark), "a second document begins here: give one per file"
                    )
            elif isinstance(event, yaml.NodeEvent):
                self._take_node(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._open.pop()
                self._keys.pop()

    def _take_node(self, event: yaml.NodeEvent) -> None:
        if event.anchor is not None:
            raise unreadable(
                _place(event.start_mark), "anchors and aliases are not supported: use `defaults`"
            )
        if isinstance(event, yaml.ScalarEvent):
            if self._open and isinstance(self._open[-1], dict) and self._keys[-1] is None:
                self._take_key(event)
            else:
                self._add(event, _scalar(event))
        elif isinstance(event, yaml.CollectionStartEvent):
            _refuse_tag(event, event.tag)
            opened: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            self._add(event, opened)
            self._open.append(opened)
            self._keys.append(None)
            if len(self._open) > MAX_DEPTH:
                raise unreadable(_place(event.start_mark), f"values are nested more than {MAX_DEPTH} deep")

    def _take_key(self, event: yaml.ScalarEvent) -> None:
        if event.value in self._open[-1]:
            raise unreadable(_place(event.start_mark), f"the key {event.value!r} occurs twice")
        self._keys[-1] = event.value

    def _add(self, event: yaml.NodeEvent, value: object) -> None:
        if not self._open:
            self.value = value
        elif isinstance(self._open[-1], list):
            self._open[-1].append(value)
        else:
            key = self._keys[-1]
            if key is None:
                raise unreadable(_place(event.start_mark), "a key must be a text")
            self._open[-1][key] = value
            self._keys[-1] = None


def _scalar(event: yaml.ScalarEvent) -> object:
    text: str = event.value
    if not event.implicit[0]:
        _refuse_tag(event, event.tag)
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _refuse_tag(event: yaml.NodeEvent, tag: str | None) -> None:
    if tag is not None and tag != "!":
        raise unreadable(_place(event.start_mark), f"the tag {tag!r} is not supported: leave it out")


def _place(mark: Any) -> str:
    """Of a mark of the pure or the compiled parser, or None."""
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""

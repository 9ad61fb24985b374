"""What a family is, and what it sees of the agents: the interface that plug-ins are written to."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from coordinator.core.model import Requirements, RetryPolicy, TaskFamily
from coordinator.errors import PluginFailed
from coordinator.families.load_weights import LoadWeights

BoolRow = NDArray[np.bool_]
IntRow = NDArray[np.int64]
FloatRow = NDArray[np.float64]

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,63}")


class Offers(Protocol):
    """What some agents say of themselves. Every answer has one element for each of them, in the same order;
    it is not to be written to."""

    def has(self, kind: str, name: str) -> BoolRow:
        """Whether it has this name among those of `kind`: type, tool, permission, environment, protocol,
        model (cached) or data."""

    def level(self, capability: str) -> IntRow:
        """Its level of the capability, -1 without it."""

    def total(self, resource: str) -> IntRow:
        """What it has in all of a field of `Resources`."""

    def limit(self, kind: str, name: str) -> IntRow:
        """How many tasks of this tool or model it takes at once; very many where it does not say."""


class Agents(Offers, Protocol):
    """The same agents with what they hold and have measured. `latency_ms` and `network`, the share of its
    bandwidth in use, are 0 for one that has not reported; `failure_share` is that of the attempts that came
    to nothing there."""

    @property
    def latency_ms(self) -> FloatRow:
        """Of its link to the leader."""

    @property
    def network(self) -> FloatRow:
        """From 0 to 1; a link that loses packets counts as busy."""

    @property
    def failure_share(self) -> FloatRow:
        """From 0 to below 1."""

    @property
    def model_load_s(self) -> float:
        """What loading a model of unknown size takes, by the setting `scheduling.model_load_s`."""

    def users(self, kind: str, name: str) -> IntRow:
        """How many tasks of this tool or model it holds."""


def _accept(requirements: Requirements) -> str:
    return ""


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """What is peculiar to a kind of tasks.

    `like` is the family of the six by which speeds are learned, and which agents are told. `load` are the
    weights of an agent's LoadScore for its tasks (None: those of `like`). `check` says what is wrong with the
    requirements of a task that is submitted, "" if nothing is. `takes` is a hard constraint beside those that
    all tasks have, `setup_s` what a task costs on each agent beside its work, in seconds (None: these
    requirements have no such cost); both are functions of their arguments alone, and are asked again only
    when these have changed. `retry` holds for a task that names no policy. A second attempt of a `repeatable`
    task may race the first: what it does is to give a result.
    """

    name: str
    like: TaskFamily = TaskFamily.UNSPECIFIED
    load: LoadWeights | None = None
    check: Callable[[Requirements], str] = _accept
    takes: Callable[[Requirements, Offers], BoolRow] | None = None
    setup_s: Callable[[Requirements, Agents], FloatRow | None] | None = None
    retry: RetryPolicy = RetryPolicy()
    repeatable: bool = False

    def __post_init__(self) -> None:
        """Raises PluginFailed."""
        if not _NAME.fullmatch(self.name):
            raise PluginFailed(
                f"a family is named {self.name!r}; give it up to 64 lower-case letters, digits and dashes",
                name=self.name,
            )
        if not isinstance(self.load, LoadWeights | None):
            raise PluginFailed(
                f"the family {self.name!r} weighs loads by a {type(self.load).__name__}: give LoadWeights",
                name=self.name,
            )

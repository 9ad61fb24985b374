"""The plan of a drill: a YAML file that says which cluster is hurt how, under what load, and within which
limits it must come back.

A plan has `tracks`, each of which strikes again and again until the time is over, and a `schedule` of faults
at fixed times; all of them run side by side. `chaos/drills/plans` holds the plans that have names.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
import yaml
from msgspec import Meta

from chaos.faults import KINDS, Fault, Need
from chaos.faults.base import Seconds
from coordinator.config import settings
from coordinator.errors import ConfigError

Measure = Literal["acknowledged", "assigned", "begun", "pause"]
"""Times from a fault to the acknowledgement of the first write that began after it, to the next assignment,
to the beginning of an attempt so assigned; and the longest time without an acknowledgement."""
MEASURES: Final[tuple[Measure, ...]] = get_args(Measure)


class ClusterShape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The cluster that the drill starts. `network` says how links are hurt: `proxies`, or `namespaces` for
    real packets (root); `settings` are those of every node, by key."""

    nodes: Annotated[int, Meta(ge=1, le=9)] = 3
    network: Literal["proxies", "namespaces"] = "proxies"
    settings: dict[str, str | int | float] = {}


class AgentsShape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The drill's agents: so many processes of so many slots."""

    count: Annotated[int, Meta(ge=1, le=200)] = 4
    slots: Annotated[int, Meta(ge=1, le=1_000)] = 6


class LoadMix(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What clients do: so many submissions of workflows per second, however long the answers take; and so
    many clients of registers and of a queue in the key-value space, each pausing `pause_s` on average
    between two operations."""

    submissions_per_s: Annotated[float, Meta(gt=0, le=1_000)] = 20.0
    registers: Annotated[int, Meta(ge=0, le=100)] = 3
    queues: Annotated[int, Meta(ge=0, le=100)] = 2
    pause_s: Annotated[float, Meta(gt=0, le=60)] = 0.1


class Track(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Faults that follow one another: each is healed, and the cluster whole again, before the next. They are
    taken in turn or drawn at random; the pause between two is drawn between two numbers. `rounds` ends
    it early."""

    faults: Annotated[list[Any], Meta(min_length=1)]
    order: Literal["turn", "random"] = "turn"
    pause_s: tuple[Seconds, Seconds] = (0.5, 1.5)
    rounds: Annotated[int, Meta(ge=1)] | None = None


class Timed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault, so many seconds after the load began."""

    at_s: Seconds
    strike: Any


class Limit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a measure may be, in ms, at the median and at the worst, over the faults that hit the leader or
    over all."""

    measure: Measure
    of: Literal["leader", "all"] = "leader"
    median_ms: Annotated[float, Meta(gt=0)] | None = None
    worst_ms: Annotated[float, Meta(gt=0)] | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See the module. `summary` is one line for people; `duration_s` bounds the time in which faults are
    struck, `elections` how often a node may stand for election in it."""

    name: str
    summary: str
    cluster: ClusterShape = ClusterShape()
    agents: AgentsShape = AgentsShape()
    load: LoadMix = LoadMix()
    tracks: list[Track] = []
    schedule: list[Timed] = []
    limits: list[Limit] = []
    elections: Annotated[int, Meta(ge=0)] | None = None
    duration_s: Annotated[float, Meta(gt=0, le=7 * 86_400)] = 60.0

    @property
    def faults(self) -> list[Fault]:
        """All that it may strike with."""
        drawn = [fault for track in self.tracks for fault in track.faults]
        return [*drawn, *(timed.strike for timed in self.schedule)]

    @property
    def needs(self) -> frozenset[Need]:
        """What its faults cannot do without."""
        return frozenset(need for fault in self.faults for need in fault.all_needs)


def read_plan(path: Path) -> Plan:
    """The plan in a file. Raises ConfigError, which names the place in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the plan {path}: {error}", path=path) from error
    return parse_plan(text, path.stem, str(path))


def parse_plan(text: str, name: str, source: str) -> Plan:
    """As `read_plan`, of a file's text; `name` is the plan's unless it names itself."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"the plan {source} is not YAML: {error}", source=source) from error
    if not isinstance(document, dict):
        raise ConfigError(
            f"the plan {source} holds a {type(document).__name__}; it must map keys to values", source=source
        )
    plan: Plan = _convert({"name": name, **document}, Plan, source, "")
    plan = msgspec.structs.replace(
        plan,
        tracks=[
            msgspec.structs.replace(track, faults=_faults(track.faults, source, f"tracks[{at}].faults"))
            for at, track in enumerate(plan.tracks)
        ],
        schedule=[
            msgspec.structs.replace(timed, strike=_fault(timed.strike, source, f"schedule[{at}].strike"))
            for at, timed in enumerate(plan.schedule)
        ],
    )
    _check(plan, source)
    return plan


def _faults(values: list[Any], source: str, place: str) -> list[Fault]:
    return [_fault(value, source, f"{place}[{at}]") for at, value in enumerate(values)]


def _fault(value: Any, source: str, place: str) -> Fault:
    """A fault is a mapping that names its kind under `fault`, or the name alone."""
    if isinstance(value, str):
        value = {"fault": value}
    kinds = {str(kind.__struct_config__.tag): kind for kind in KINDS}
    name = value.get("fault") if isinstance(value, dict) else value
    if name not in kinds:
        raise ConfigError(
            f"the plan {source} has {name!r} at {place}; the faults that there are: {', '.join(kinds)}",
            source=source,
            place=place,
        )
    fault: Fault = _convert(value, kinds[name], source, place)
    _check_range("hold_s", fault.hold_s, source, place)
    return fault


def _convert(value: Any, kind: Any, source: str, place: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        within = re.search(r" - at `\$\.?(.*)`$", str(error))
        inner = within.group(1) if within else ""
        where = ".".join(part for part in (place, inner) if part) or "the top"
        what = str(error).partition(" - at `")[0]
        raise ConfigError(
            f"the plan {source} cannot be used: {what}, at {where}", source=source, place=where
        ) from error


def _check_range(name: str, bounds: tuple[float, float], source: str, place: str) -> None:
    if bounds[0] > bounds[1]:
        raise ConfigError(
            f"the plan {source} has {name} from {bounds[0]:g} to {bounds[1]:g} at {place}; the first is at "
            "most the second",
            source=source,
            place=place,
        )


def _check(plan: Plan, source: str) -> None:
    """What single values cannot show."""
    if not plan.tracks and not plan.schedule:
        raise ConfigError(f"the plan {source} has neither tracks nor a schedule: it does nothing")
    for at, track in enumerate(plan.tracks):
        _check_range("pause_s", track.pause_s, source, f"tracks[{at}]")
    known = settings()
    for key in plan.cluster.settings:
        if key not in known:
            raise ConfigError(
                f"the plan {source} sets {key!r} at cluster.settings; docs/configuration.md lists what there "
                "is",
                source=source,
                key=key,
            )
    late = [timed.at_s for timed in plan.schedule if timed.at_s >= plan.duration_s]
    if late:
        raise ConfigError(
            f"the plan {source} strikes at {late[0]:g} s and ends at {plan.duration_s:g} s: give it a longer "
            "duration_s",
            source=source,
        )

"""Kinds of tasks, by which what ends have taught is kept."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import msgspec

from coordinator.core.logarithms import log2_fixed
from coordinator.core.model import DataItem, TaskFamily, TaskProfile

_PROFILES_KEPT: Final = 2_048


class Kind(msgspec.Struct, frozen=True, array_like=True, cache_hash=True, gc=False):
    """Tasks that are expected to last equally long: in multiples of what their clients expect where they say
    so (`stated`), or else by what they read where they say that (`sized`)."""

    type: str
    variant: str
    family: TaskFamily
    stated: bool
    sized: bool = False


def read_log2(inputs: Iterable[DataItem]) -> int:
    """Of what a task reads, the logarithm to base 2 of its bytes in fixed point (`logarithms.log2_fixed`); 0
    where its inputs have no sizes."""
    size_bytes = sum(item.size_bytes for item in inputs)
    return log2_fixed(size_bytes) if size_bytes > 0 else 0


def kind_of(profile: TaskProfile, hint: int) -> Kind:
    """The kind of a task: its type and the model or tool that it needs, and what its client says
    (`Task.hint`)."""
    return kinds_of(profile)[(hint > 0) - (hint < 0)]


@lru_cache(maxsize=_PROFILES_KEPT)
def kinds_of(profile: TaskProfile) -> tuple[Kind, Kind, Kind]:
    """By the sign of the hint: of tasks whose clients say nothing, of those whose clients say what they take,
    and last, as -1 finds it, of those whose clients say what they read."""
    needs = profile.requirements.needs
    return _kinds(profile.type, needs.model or needs.tool, profile.family)


@lru_cache(maxsize=_PROFILES_KEPT)
def _kinds(type_name: str, variant: str, family: TaskFamily) -> tuple[Kind, Kind, Kind]:
    """The same kinds for all profiles that share them: what is looked up by a kind is found sooner."""
    said = type_name, variant, family
    return Kind(*said, False), Kind(*said, True), Kind(*said, False, True)


Pair = tuple[str, Kind]
"""Whose ends: an agent's, "" for all that are forgotten, of a kind."""

encode_pair: Final = msgspec.msgpack.Encoder().encode
"""A pair as the key of its record."""

decode_pair: Final = msgspec.msgpack.Decoder(Pair).decode
"""And back."""

"""Kinds of tasks, by which what ends have taught is kept."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from coordinator.core.model import TaskFamily, TaskProfile

_PROFILES_KEPT: Final = 2_048


class Kind(msgspec.Struct, frozen=True, array_like=True, cache_hash=True, gc=False):
    """Tasks that are expected to last equally long, in multiples of what their clients expect where they say
    so (`stated`)."""

    type: str
    variant: str
    family: TaskFamily
    stated: bool


def kind_of(profile: TaskProfile, expected_ms: int) -> Kind:
    """The kind of a task: its type and the model or tool that it needs."""
    return kinds_of(profile)[expected_ms > 0]


@lru_cache(maxsize=_PROFILES_KEPT)
def kinds_of(profile: TaskProfile) -> tuple[Kind, Kind]:
    """Of tasks whose clients do not say what they take, and of those whose clients do."""
    needs = profile.requirements.needs
    return _kinds(profile.type, needs.model or needs.tool, profile.family)


@lru_cache(maxsize=_PROFILES_KEPT)
def _kinds(type_name: str, variant: str, family: TaskFamily) -> tuple[Kind, Kind]:
    """The same kinds for all profiles that share them: what is looked up by a kind is found sooner."""
    return Kind(type_name, variant, family, False), Kind(type_name, variant, family, True)


Pair = tuple[str, Kind]
"""Whose ends: an agent's, "" for all that are forgotten, of a kind."""

encode_pair: Final = msgspec.msgpack.Encoder().encode
"""A pair as the key of its record."""

decode_pair: Final = msgspec.msgpack.Decoder(Pair).decode
"""And back."""

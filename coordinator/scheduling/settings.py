"""What an operator may set of placement."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from coordinator.scheduling.costs.affinity import MODEL_LOAD_S
from coordinator.scheduling.costs.policies import DEFAULT

LONGEST_LABEL: Final = 256
"""Characters of the name of a label, as agents may have."""


class SchedulingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`policy` names one of `policies`, or that of a plug-in. `group_by` is a label whose value is the group
    of an agent, "" for none. `model_load_s` is what loading a model takes whose size is not known. A round
    makes `least_batch` to `most_batch` choices, as many as it can in `round_ms`, and the next one follows
    `most_interval_ms` later at most, or `busy_interval_ms` while all slots are taken. A second attempt is
    begun once the first has lasted for `least_patience` to `most_patience` times what was expected. A leader
    remembers `decisions_kept` rounds and other decisions, and how `explained_kept` choices came about, of
    which it takes down `explained_per_s` at most."""

    policy: Annotated[str, Meta(pattern="^[a-z][a-z0-9-]{0,63}$")] = DEFAULT
    group_by: Annotated[str, Meta(max_length=LONGEST_LABEL)] = ""
    model_load_s: Annotated[float, Meta(ge=0, le=86_400)] = MODEL_LOAD_S
    round_ms: Annotated[int, Meta(ge=1, le=1_000)] = 10
    least_batch: Annotated[int, Meta(ge=1, le=100_000)] = 100
    most_batch: Annotated[int, Meta(ge=1, le=100_000)] = 2_000
    most_interval_ms: Annotated[int, Meta(ge=0, le=1_000)] = 5
    busy_interval_ms: Annotated[int, Meta(ge=0, le=1_000)] = 15
    least_patience: Annotated[float, Meta(ge=0.1, le=100)] = 1.0
    most_patience: Annotated[float, Meta(ge=0.1, le=100)] = 4.0
    decisions_kept: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    explained_kept: Annotated[int, Meta(ge=1, le=1_000_000)] = 1_000
    explained_per_s: Annotated[int, Meta(ge=0, le=10_000)] = 10

    def rules(self) -> list[tuple[str, bool, str]]:
        """The key of a setting, whether it agrees with the others, and what it should be."""
        most, patience = self.most_batch, self.most_patience
        return [
            ("scheduling.least_batch", self.least_batch <= most, f"at most scheduling.most_batch, {most}"),
            (
                "scheduling.least_patience",
                self.least_patience <= patience,
                f"at most scheduling.most_patience, {patience:g}",
            ),
        ]

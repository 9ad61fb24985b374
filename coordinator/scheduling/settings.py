"""What an operator may set of placement."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from coordinator.scheduling.affinity import MODEL_LOAD_S
from coordinator.scheduling.policies import DEFAULT


class SchedulingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`policy` names one of `policies`, or that of a plug-in. `model_load_s` is what loading a model takes
    whose size is not known."""

    policy: Annotated[str, Meta(pattern="^[a-z][a-z0-9-]{0,63}$")] = DEFAULT
    model_load_s: Annotated[float, Meta(ge=0, le=86_400)] = MODEL_LOAD_S

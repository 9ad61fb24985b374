"""What an operator may set of placement."""

from __future__ import annotations

from typing import Literal

import msgspec


class SchedulingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`policy` is one of `policies.NAMES`."""

    policy: Literal["balanced", "fast", "green", "cheap-network", "least-loaded", "round-robin"] = "balanced"

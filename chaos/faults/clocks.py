"""Clocks that are wrong."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from chaos.faults.base import Fault, Need, Site, Wound, now_ms


class Skew(Fault, tag="skew", frozen=True, kw_only=True):
    """A node's clock jumps by so many seconds, forward or back, and jumps back when it is healed."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.CLOCKS})

    target: str = "leader"
    offset_s: Annotated[float, Meta(ge=-86_400, le=86_400)] = 30.0

    def strike(self, site: Site) -> Wound:
        """See `Fault`."""
        assert site.clocks is not None
        clocks, node = site.clocks, site.choose(self.target)
        at_ms = now_ms()
        clocks.set(node, self.offset_s)
        return Wound(
            at_ms=at_ms, nodes=(node,), note=f"{self.offset_s:+g} s", heal=lambda: clocks.set(node, 0.0)
        )

"""The links between nodes, as something that can be cut and made worse.

A link is directed: what `source` sends to `target`. Two networks do this: `proxies` needs no privileges,
`namespaces` drops real packets.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, Protocol

import msgspec

Manner = Literal["silent", "reset"]
"""How a link is cut: nothing comes through and nobody is told, or connections are reset and refused."""


class Link(NamedTuple):
    """One direction between two nodes, by their ids."""

    source: str
    target: str


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How a link is worse than it was. `loss` is the share of packets (proxies: of chunks) that have to be
    sent again; 0 bytes/s is no bound."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    bytes_per_s: float = 0.0


class Network(Protocol):
    """Links, by `Link`. Cutting and shaping are independent of each other; a later call overrules an earlier
    one for the same link."""

    def cut(self, links: Iterable[Link], manner: Manner) -> None:
        """Let nothing through."""

    def mend(self, links: Iterable[Link]) -> None:
        """Undo `cut`."""

    def shape(self, links: Iterable[Link], shape: Shape) -> None:
        """Make them worse; `Shape()` makes them good again."""

    def reset(self, links: Iterable[Link]) -> None:
        """Reset the connections that there are; new ones are welcome."""


def all_links(nodes: Iterable[str]) -> list[Link]:
    """Every directed link among the nodes."""
    ids = list(nodes)
    return [Link(source, target) for source in ids for target in ids if source != target]


def links_between(some: Iterable[str], others: Iterable[str]) -> list[Link]:
    """Both directions between two groups of nodes."""
    far = list(others)
    return [link for near in some for one in far for link in (Link(near, one), Link(one, near))]

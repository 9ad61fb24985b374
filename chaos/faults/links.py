"""Links between nodes that are cut, or worse than they should be."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from chaos.faults.base import (
    Fault,
    Milliseconds,
    Need,
    Periodic,
    Share,
    Site,
    Wound,
    now_ms,
)
from chaos.harness.network import Link, Manner, Shape, all_links, links_between

_LINKS = frozenset({Need.LINKS})


class Isolate(Fault, tag="isolate", frozen=True, kw_only=True):
    """One node is cut off from all others. With `direction` "in" it hears nobody and is heard, with "out" it
    is not heard and hears the others."""

    needs: ClassVar[frozenset[Need]] = _LINKS

    target: str = "leader"
    direction: Literal["both", "in", "out"] = "both"
    manner: Manner = "silent"

    def strike(self, site: Site) -> Wound:
        """See `Fault`."""
        node, leader = site.choose(self.target), site.leader()
        others = [one for one in site.nodes if one != node]
        links = [
            link
            for link in links_between([node], others)
            if self.direction == "both" or (link.target == node) == (self.direction == "in")
        ]
        return _cut(site, links, self.manner, node, leader=node == leader, note=self.direction)


class Split(Fault, tag="split", frozen=True, kw_only=True):
    """The nodes fall into a majority and a minority; the leader is in the minority unless `leader` says
    otherwise."""

    needs: ClassVar[frozenset[Need]] = _LINKS

    leader: Literal["minority", "majority"] = "minority"
    manner: Manner = "silent"

    def strike(self, site: Site) -> Wound:
        """See `Fault`."""
        leader, nodes = site.leader(), site.nodes
        others = [node for node in nodes if node != leader]
        site.rng.shuffle(others)
        size = (len(nodes) - 1) // 2
        minority = [leader, *others[: size - 1]] if self.leader == "minority" else others[:size]
        majority = [node for node in nodes if node not in minority]
        return _cut(
            site,
            links_between(minority, majority),
            self.manner,
            *minority,
            leader=self.leader == "minority",
            note=f"{'+'.join(minority)} | {'+'.join(majority)}",
        )


class Bridge(Fault, tag="bridge", frozen=True, kw_only=True):
    """Two halves that reach each other only through one node, which sees both: no two of its neighbours in
    different halves agree on who is there. The leader is in one of the halves."""

    needs: ClassVar[frozenset[Need]] = _LINKS

    manner: Manner = "silent"

    def strike(self, site: Site) -> Wound:
        """See `Fault`."""
        leader, nodes = site.leader(), site.nodes
        others = [node for node in nodes if node != leader]
        site.rng.shuffle(others)
        bridge, *rest = others
        half = len(rest) // 2
        near, far = [leader, *rest[:half]], rest[half:]
        note = f"{'+'.join(near)} - {bridge} - {'+'.join(far)}"
        return _cut(site, links_between(near, far), self.manner, *far, leader=False, note=note)


class Flap(Fault, tag="flap", frozen=True, kw_only=True):
    """The links of one node are cut and mended in turn, every `period_s`."""

    needs: ClassVar[frozenset[Need]] = _LINKS

    target: str = "leader"
    period_s: Annotated[float, Meta(ge=0.02, le=60)] = 0.4
    manner: Manner = "silent"

    def strike(self, site: Site) -> Wound:
        """See `Fault`."""
        node, leader = site.choose(self.target), site.leader()
        links = links_between([node], [one for one in site.nodes if one != node])
        wound = _cut(site, links, self.manner, node, leader=node == leader, note=f"every {self.period_s} s")

        def turn(number: int) -> None:
            if number % 2:
                site.links.mend(links)
            else:
                site.links.cut(links, self.manner)

        flapping = Periodic(turn, self.period_s)

        def heal() -> None:
            flapping.stop()
            site.links.mend(links)

        return Wound(
            at_ms=wound.at_ms,
            in_effect_ms=wound.in_effect_ms,
            nodes=wound.nodes,
            leader=wound.leader,
            note=wound.note,
            heal=heal,
        )


class Slow(Fault, tag="slow", frozen=True, kw_only=True):
    """What a node sends and gets is delayed, throttled and lost (lost packets are sent again by TCP); of all
    nodes with `target: all`."""

    needs: ClassVar[frozenset[Need]] = _LINKS

    target: str = "all"
    delay_ms: Milliseconds = 0.0
    jitter_ms: Milliseconds = 0.0
    loss: Share = 0.0
    bytes_per_s: Annotated[float, Meta(ge=0)] = 0.0

    def strike(self, site: Site) -> Wound:
        """See `Fault`."""
        links, nodes = _touched(site, self.target)
        shape = Shape(
            delay_ms=self.delay_ms,
            jitter_ms=self.jitter_ms,
            loss=self.loss,
            bytes_per_s=self.bytes_per_s,
        )
        at_ms = now_ms()
        site.links.shape(links, shape)
        return Wound(at_ms=at_ms, nodes=nodes, note=self._note, heal=lambda: site.links.shape(links, Shape()))

    @property
    def all_needs(self) -> frozenset[Need]:
        """See `Fault`."""
        return self.needs | {Need.DELAY} if self.delay_ms or self.jitter_ms else self.needs

    @property
    def _note(self) -> str:
        parts = {
            f"{self.delay_ms:g} ± {self.jitter_ms:g} ms": self.delay_ms or self.jitter_ms,
            f"{self.loss:.0%} lost": self.loss,
            f"{self.bytes_per_s:g} bytes/s": self.bytes_per_s,
        }
        return ", ".join(part for part, there in parts.items() if there)


class Reset(Fault, tag="reset", frozen=True, kw_only=True):
    """Connections of a node, or of all, are reset every `period_s`; new ones are welcome."""

    needs: ClassVar[frozenset[Need]] = _LINKS

    target: str = "all"
    period_s: Annotated[float, Meta(ge=0.02, le=60)] = 0.5

    def strike(self, site: Site) -> Wound:
        """See `Fault`."""
        links, nodes = _touched(site, self.target)
        at_ms = now_ms()
        site.links.reset(links)
        resetting = Periodic(lambda _: site.links.reset(links), self.period_s)
        return Wound(at_ms=at_ms, nodes=nodes, note=f"every {self.period_s} s", heal=resetting.stop)


def _touched(site: Site, target: str) -> tuple[list[Link], tuple[str, ...]]:
    if target == "all":
        return all_links(site.nodes), tuple(site.nodes)
    node = site.choose(target)
    return links_between([node], [one for one in site.nodes if one != node]), (node,)


def _cut(site: Site, links: list[Link], manner: Manner, *nodes: str, leader: bool, note: str) -> Wound:
    at_ms = now_ms()
    site.links.cut(links, manner)
    return Wound(
        at_ms=at_ms,
        in_effect_ms=now_ms(),
        nodes=nodes,
        leader=leader,
        note=note,
        heal=lambda: site.links.mend(links),
    )

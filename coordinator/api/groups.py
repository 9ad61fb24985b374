"""Groups of agents in the wire's words."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from coordinator.api.convert import resources_to_proto
from coordinator.scheduling.summaries import GroupSummary
from quorumflow_proto.v1 import operator_pb2 as pb


def page_of(found: Sequence[GroupSummary], request: pb.ListGroupsRequest, size: int) -> pb.ListGroupsReply:
    """So many of these, which are sorted by name, after the one that the token names."""
    begin = bisect_right(found, request.page_token[1:], key=lambda one: one.name) if request.page_token else 0
    page = found[begin : begin + size]
    more = len(found) > begin + size
    # The group of agents without any has no name.
    return pb.ListGroupsReply(
        groups=[_to_proto(one) for one in page], next_page_token=f"/{page[-1].name}" if more else ""
    )


def _to_proto(one: GroupSummary) -> pb.GroupSummary:
    return pb.GroupSummary(
        name=one.name,
        agents=one.agents,
        accepting=one.accepting,
        slots=one.slots,
        held=one.held,
        held_s=one.held_s,
        load_score=one.load,
        free_slots=one.free_slots,
        wait_s=one.wait_s,
        speed=one.speed,
        busy_watts=one.busy_watts,
        free=resources_to_proto(one.free),
    )

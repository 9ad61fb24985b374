"""Every error that a coordinator gives a client has its class in the SDK, and arrives whole (G1)."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from agent_sdk import errors as sdk
from coordinator import errors as server
from quorumflow_proto.v1 import common_pb2

INSIDE = {"INTERNAL", "CONFIG", "START_FAILED", "MODEL_FAILED", "UNREADABLE_WORKFLOW", "UNREADABLE_BACKUP"}
"""Reasons that arise where there is no client to tell, besides those of `Fatal`."""


def tree(root: type[server.CoordinatorError]) -> list[type[server.CoordinatorError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in tree(child))]


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in tree(server.CoordinatorError)
        if not issubclass(kind, server.Fatal) and kind.reason not in INSIDE
    ],
)
def test_a_coordinators_error_has_its_class_in_the_sdk(kind: type[server.CoordinatorError]) -> None:
    error = sdk.from_detail(common_pb2.ErrorDetail(reason=kind.reason, message="m"))
    assert type(error).__name__ == kind.__name__
    assert [parent.__name__ for parent in type(error).__mro__ if issubclass(parent, sdk.QuorumflowError)][
        1:-1
    ] == [parent.__name__ for parent in kind.__mro__ if issubclass(parent, server.CoordinatorError)][1:-1]


def rpc_error(code: grpc.StatusCode, detail: bytes | None) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata(*(() if detail is None else ((sdk.DETAIL_KEY, detail),)))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, "said gRPC")


def test_a_detail_arrives_whole() -> None:
    detail = common_pb2.ErrorDetail(
        reason="NOT_LEADER",
        message="go there",
        fields={"a": "b"},
        retry_after_ms=7,
        leader_id="n2",
        leader_address="h:1",
    )
    error = sdk.from_rpc_error(rpc_error(grpc.StatusCode.FAILED_PRECONDITION, detail.SerializeToString()))
    assert isinstance(error, sdk.NotLeader)
    assert (error.reason, str(error), error.fields, error.retry_after_ms) == (
        "NOT_LEADER",
        "go there",
        {"a": "b"},
        7,
    )
    assert (error.leader_id, error.leader_address) == ("n2", "h:1")


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, sdk.Unavailable, "UNAVAILABLE"),
        (grpc.StatusCode.CANCELLED, sdk.Unavailable, "UNAVAILABLE"),
        (grpc.StatusCode.INTERNAL, sdk.Unavailable, "UNAVAILABLE"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, sdk.LimitExceeded, "LIMIT_EXCEEDED"),
        (grpc.StatusCode.UNIMPLEMENTED, sdk.Unsupported, "UNSUPPORTED"),
        (grpc.StatusCode.UNAUTHENTICATED, sdk.AccessDenied, "ACCESS_DENIED"),
        (grpc.StatusCode.DATA_LOSS, sdk.QuorumflowError, "DATA_LOSS"),
    ],
)
@pytest.mark.parametrize("detail", [None, b"\xff\xff\xff"])
def test_without_a_readable_detail_the_code_decides(
    code: grpc.StatusCode, kind: type[sdk.QuorumflowError], reason: str, detail: bytes | None
) -> None:
    error = sdk.from_rpc_error(rpc_error(code, detail))
    assert type(error) is kind
    assert (error.reason, str(error)) == (reason, "said gRPC")

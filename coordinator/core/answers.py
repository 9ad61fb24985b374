"""What is kept to be answered with: the results of tasks, the replies to requests."""

from __future__ import annotations

import msgspec


class ResultRecord(msgspec.Struct, array_like=True, gc=False):
    """What a completed attempt left: `data` inline, or a `reference` to where it was put."""

    data: bytes = b""
    reference: str = ""


class RequestRecord(msgspec.Struct, array_like=True, gc=False):
    """The remembered reply to a request id, forgotten once `expires_ms` is past. `sequence` orders them."""

    request_id: str
    sequence: int
    expires_ms: int
    reply: bytes

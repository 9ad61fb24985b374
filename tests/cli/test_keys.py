"""`coordctl kv` against a scripted server: what it sends, the shapes of its JSON, how bytes are shown, its
exit codes. Answers A6, G4."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from coordinator.errors import LimitExceeded, RevisionCompacted, StaleVersion
from quorumflow_proto.v1 import kv_pb2 as kv

if TYPE_CHECKING:
    from click.testing import Result

    from tests.cli.conftest import Coordctl, Script

END = RevisionCompacted("so that the watch ends")


def printed(result: Result) -> Any:
    """The JSON that a successful command printed."""
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


async def test_put_takes_the_value_from_the_command_line(script: Script, coordctl: Coordctl) -> None:
    script.answers["Put"] = kv.KvPutReply(version=7, created=3)
    result = await coordctl("kv", "put", "k", "wört", "--output", "json")
    assert printed(result) == {"key": "k", "version": 7, "created": 3}
    (request,) = script.requests("Put")
    assert (request.key, request.value, request.HasField("expect")) == ("k", "wört".encode(), False)


@pytest.mark.parametrize("source", ["file", "stdin"])
async def test_put_takes_the_value_from_a_file(
    script: Script, coordctl: Coordctl, tmp_path: Path, source: str
) -> None:
    script.answers["Put"] = kv.KvPutReply(version=7, created=3)
    path = tmp_path / "value"
    path.write_bytes(b"\x00\xff")
    file = str(path) if source == "file" else "-"
    result = await coordctl("kv", "put", "k", "--file", file, "--expect", "0", input=b"\x00\xff")
    assert result.exit_code == 0
    (request,) = script.requests("Put")
    assert (request.value, request.HasField("expect"), request.expect) == (b"\x00\xff", True, 0)


@pytest.mark.parametrize("arguments", [(), ("v", "--file", "-"), ("v", "--expect", "-1")])
async def test_put_is_told_how_to_be_used(
    script: Script, coordctl: Coordctl, arguments: tuple[str, ...]
) -> None:
    assert (await coordctl("kv", "put", "k", *arguments)).exit_code == 2
    assert script.asked == []


async def test_an_empty_value_is_a_value(script: Script, coordctl: Coordctl) -> None:
    script.answers["Put"] = kv.KvPutReply(version=7, created=3)
    assert (await coordctl("kv", "put", "k", "")).exit_code == 0
    assert script.requests("Put")[0].value == b""


async def test_a_stale_expectation_names_the_version(script: Script, coordctl: Coordctl) -> None:
    script.answers["Put"] = StaleVersion("key 'k' is at version 9", key="k", expected=7, current=9)
    result = await coordctl("kv", "put", "k", "v", "--expect", "7", "--output", "json")
    assert result.exit_code == 5
    error = json.loads(result.stderr)["error"]
    assert (error["reason"], error["fields"]["current"]) == ("STALE_VERSION", "9")


async def test_a_limit_is_a_refusal(script: Script, coordctl: Coordctl) -> None:
    script.answers["Put"] = LimitExceeded("the value is too long")
    assert (await coordctl("kv", "put", "k", "v")).exit_code == 5


async def test_get_prints_the_value_byte_for_byte(script: Script, coordctl: Coordctl) -> None:
    item = kv.KvItem(key="k", value=b"\x00\xff\n", version=7, created=3)
    script.answers["Get"] = kv.KvGetReply(item=item, revision=9)
    assert (await coordctl("kv", "get", "k")).stdout_bytes == b"\x00\xff\n"
    reply = kv.KvGetReply(item=item, revision=9, stale=True, age_ms=40)
    script.answers["Get"] = reply
    shown = printed(await coordctl("kv", "get", "k", "--stale", "--output", "json"))
    told = {"stale": True, "age_ms": 40}
    assert shown == {"key": "k", "value_base64": "AP8K", "version": 7, "created": 3, **told}
    assert [request.allow_stale for request in script.requests("Get")] == [False, True]


async def test_what_is_not_there_is_not_found(script: Script, coordctl: Coordctl) -> None:
    script.answers["Get"] = kv.KvGetReply(revision=9)
    result = await coordctl("kv", "get", "k")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "'k'" in result.stderr


@pytest.mark.parametrize(("version", "deleted"), [(8, True), (0, False)])
async def test_delete_says_whether_there_was_something(
    script: Script, coordctl: Coordctl, version: int, deleted: bool
) -> None:
    script.answers["Delete"] = kv.KvDeleteReply(version=version)
    result = await coordctl("kv", "delete", "k", "--expect", "7", "--output", "json")
    assert printed(result) == {"key": "k", "deleted": deleted}
    assert script.requests("Delete")[0].expect == 7


async def test_range_takes_page_after_page(script: Script, coordctl: Coordctl) -> None:
    first = kv.KvItem(key="a/1", value=b"text", version=7, created=3)
    second = kv.KvItem(key="a/\x1b[2J", value=b"\x1b[2J" + bytes(200), version=8, created=8)
    third = kv.KvItem(key="a/3", value=b"\xff" * 90, version=9, created=9)
    pages = [
        kv.KvRangeReply(items=[first], next_page_token="a/1", revision=9),
        kv.KvRangeReply(items=[second, third], revision=9),
    ]
    script.answers["Range"] = [*pages]
    shown = printed(await coordctl("kv", "range", "a/", "--output", "json"))
    assert [item["key"] for item in shown["items"]] == ["a/1", "a/\x1b[2J", "a/3"]
    assert shown["items"][0] == {"key": "a/1", "value": "text", "version": 7, "created": 3}
    assert [one.page_token for one in script.requests("Range")] == ["", "a/1"]
    assert {one.prefix for one in script.requests("Range")} == {"a/"}
    script.answers["Range"] = [*pages]
    table = (await coordctl("kv", "range", "a/")).stdout
    assert "\x1b" not in table
    assert max(map(len, table.splitlines())) < 400
    assert table.splitlines()[1].split() == ["a/1", "7", "3", "text"]


async def test_watch_prints_a_line_for_each_change(script: Script, coordctl: Coordctl) -> None:
    put = kv.KvEvent(key="k", version=7, value=b"v", created=7, at_ms=1)
    gone = kv.KvEvent(key="k", version=8, deleted=True, created=7, at_ms=2)
    script.answers["Watch"] = [kv.KvWatchReply(events=[put, gone], revision=8), END]
    result = await coordctl("kv", "watch", "k", "--from-revision", "5", "--output", "json")
    assert result.exit_code == 5
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"key": "k", "version": 7, "deleted": False, "value": "v", "created": 7, "at_ms": 1},
        {"key": "k", "version": 8, "deleted": True, "created": 7, "at_ms": 2},
    ]
    (request,) = script.requests("Watch")
    assert (request.prefix, request.from_revision) == ("k", 5)
    lines = (await coordctl("kv", "watch", "k", "--from-revision", "5")).stdout.splitlines()
    assert lines == ["7 k v", "8 k deleted"]

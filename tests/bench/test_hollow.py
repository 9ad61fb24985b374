"""The process that answers puts and does nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.hollow import Hollow
from bench.puts import Connect, Load, take_turn
from bench.writers import by_calls, on_a_stream


@pytest.mark.parametrize("connect", [by_calls, on_a_stream])
async def test_it_answers_as_a_node_would_and_is_gone_in_the_end(tmp_path: Path, connect: Connect) -> None:
    with Hollow(tmp_path) as hollow:
        turn = await take_turn(hollow.address, connect, Load(2, 1, 4))
        assert len(turn.each) == 4
    assert not hollow._process.alive


def test_what_does_not_serve_is_said_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.hollow._PATIENCE_S", 0.0)
    with pytest.raises(TimeoutError, match=r"hollow\.log"):
        Hollow(tmp_path).__enter__()

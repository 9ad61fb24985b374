"""The structured log: one line per event on stderr, the process's identity in each, events of other libraries
too. Answers I1 (structured logs)."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import logging, structlog
from coordinator import telemetry
telemetry.configure(level="info", format={format!r}, node="n7")
log = structlog.get_logger("here")
log.debug("hidden")
log.info("seen", number=5)
logging.getLogger("library").warning("from %s", "outside")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""


def logged(log_format: str) -> subprocess.CompletedProcess[str]:
    """What a process with this format writes."""
    program = PROGRAM.format(format=log_format)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)


def test_json_is_one_line_per_event_with_the_identity() -> None:
    process = logged("json")
    assert process.stdout == ""
    seen, outside, failed = (json.loads(line) for line in process.stderr.splitlines())
    assert (seen["event"], seen["number"], seen["level"]) == ("seen", 5, "info")
    assert (outside["event"], outside["level"]) == ("from outside", "warning")
    assert "ZeroDivisionError" in failed["exception"]
    assert {line["node"] for line in (seen, outside, failed)} == {"n7"}
    assert all(line["timestamp"].endswith("Z") for line in (seen, outside, failed))


@pytest.mark.parametrize("wanted", ["seen", "number=5", "node=n7", "from outside", "ZeroDivisionError"])
def test_console_shows_the_same_without_colours_where_there_is_no_terminal(wanted: str) -> None:
    text = logged("console").stderr
    assert wanted in text
    assert "\x1b" not in text
    assert "hidden" not in text

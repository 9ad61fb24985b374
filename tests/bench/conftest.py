"""What the tests of the placement benchmark read where it is present."""

from __future__ import annotations

from pathlib import Path

import pytest

_DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of recorded workflows and job shops, which are not part of the project."""
    if not _DATA.is_dir():
        pytest.skip("the recorded workflows and job shops of ../shared are not here")
    return _DATA

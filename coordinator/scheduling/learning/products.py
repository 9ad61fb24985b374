"""Products of arrays over agents, without BLAS: it shares long ones (over 10,000 in OpenBLAS) among threads,
which gives other bits, and takes a thousand times as long where others have the cores."""

from __future__ import annotations

import numpy as np

from coordinator.scheduling.agents.rows import FloatRow


def dot(left: FloatRow, right: FloatRow) -> float:
    """The sum of the products."""
    return float(np.einsum("i,i->", left, right))

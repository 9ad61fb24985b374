"""The drills that have names: the plans in `chaos/drills/plans`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from chaos.plan import Plan, read_plan
from coordinator.errors import NotFound

_FOLDER: Final = Path(__file__).parent / "plans"


def names() -> list[str]:
    """The names of all drills."""
    return sorted(file.stem for file in _FOLDER.glob("*.yaml"))


def find(name: str) -> Plan:
    """The drill of this name, or the plan in the file of this name. Raises NotFound, ConfigError."""
    if name in names():
        return read_plan(_FOLDER / f"{name}.yaml")
    if name.endswith((".yaml", ".yml")):
        return read_plan(Path(name))
    raise NotFound(
        f"there is no drill {name!r}; there are {', '.join(names())}, and the plan files that you write: "
        "their names end in .yaml",
        name=name,
    )

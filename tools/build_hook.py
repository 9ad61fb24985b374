"""Hatch build hook: the stubs are generated whenever the package is built or installed in place."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class GenerateStubs(BuildHookInterface):  # type: ignore[type-arg]
    """Runs `tools/generate_stubs.py` before the files of the wheel are collected."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generate the stubs below the project's root."""
        del version, build_data
        root = Path(self.root)
        spec = importlib.util.spec_from_file_location("generate_stubs", root / "tools" / "generate_stubs.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.generate(root)

"""What the upstream chart renders at 0.3.0, where it is at hand: read from beside the checkout, never part of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

SHARED = Path(__file__).resolve().parents[3] / "shared" / "kof"
GOLDEN = sorted((SHARED / "golden-0.3.0").glob("*.yaml"))
NAMES = [file.stem for file in GOLDEN] or ["default"]

needs_golden = pytest.mark.skipif(not GOLDEN, reason=f"{SHARED}/golden-0.3.0 is not on this machine")


def golden(name: str) -> Any:
    return yaml.safe_load((SHARED / "golden-0.3.0" / f"{name}.yaml").read_text())


def write_values(directory: Path, values: Any, name: str = "values.yaml") -> str:
    file = directory / name
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    return str(file)

"""What the upstream charts render, where it is at hand: read from beside the checkout, never part of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

SHARED = Path(__file__).resolve().parents[3] / "shared" / "kof"
GOLDEN = sorted((SHARED / "golden-0.3.0").glob("*.yaml"))
NAMES = [file.stem for file in GOLDEN] or ["default"]
NEWER = sorted((SHARED / "golden-1.x").glob("*.yaml"))
NEWER_NAMES = [file.stem for file in NEWER] or ["1.11.0-default"]

needs_golden = pytest.mark.skipif(not GOLDEN, reason=f"{SHARED}/golden-0.3.0 is not on this machine")
needs_newer = pytest.mark.skipif(not NEWER, reason=f"{SHARED}/golden-1.x is not on this machine")


def read(file: Path) -> Any:
    return yaml.load(file.read_text(), Loader=yaml.CSafeLoader)


def golden(name: str) -> Any:
    return read(SHARED / "golden-0.3.0" / f"{name}.yaml")


def newer(name: str) -> Any:
    return read(SHARED / "golden-1.x" / f"{name}.yaml")


def write_values(directory: Path, values: Any, name: str = "values.yaml") -> str:
    file = directory / name
    file.write_text(yaml.dump(values, Dumper=yaml.CSafeDumper, sort_keys=False))
    return str(file)

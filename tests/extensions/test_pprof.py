"""pprof is accepted, and one warning says that it does nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from kofagent.component import registry
from kofagent.config.load import load_config

CONFIG = """
extensions:
  pprof: %s
receivers: {nop: {}}
exporters: {nop: {}}
service: {extensions: [pprof], pipelines: {logs: {receivers: [nop], exporters: [nop]}}}
"""


@pytest.mark.parametrize("options", ["", "{}", '{endpoint: "localhost:1777"}'])
def test_it_is_accepted_with_a_warning(tmp_path: Path, options: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(CONFIG % options)
    [warning] = load_config([str(file)], registry).warnings
    assert "extensions.pprof: has no effect" in str(warning) and warning.warning

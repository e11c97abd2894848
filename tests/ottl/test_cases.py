"""Every recorded case of the language comes out as from the Go collector."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ottl import running


@pytest.mark.parametrize(("name", "case"), running.all_cases())
def test_case(name: str, case: dict[str, Any]) -> None:
    running.run(case)
    if not case.get("refused"):
        running.run(case, compiled=False)

"""Every recorded case of the language comes out as from the Go collector."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ottl import running

ACCIDENTS = {
    "converters-parse/ParseJSON-leading-zero": "a number with a leading zero is no JSON",
    "log-functions/ParseELF-normal": "an entry with too few fields is read without an error in the log",
}
"""Where the Go collector does something by accident, and what is done here instead."""


@pytest.mark.parametrize(("name", "case"), running.all_cases())
def test_case(name: str, case: dict[str, Any]) -> None:
    if name in ACCIDENTS:
        with pytest.raises(running.Different):
            running.run(case)
        return
    running.run(case)

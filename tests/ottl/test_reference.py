"""Every function has an example, which can be run and shows something."""

from __future__ import annotations

import pytest

from kofagent.ottl import examples, reference
from kofagent.ottl.functions import CONVERTERS, EDITORS


def test_every_function_has_an_example_that_calls_it() -> None:
    for table, given in ((CONVERTERS, examples.CONVERTERS), (EDITORS, examples.EDITORS)):
        assert given.keys() == table.keys()
        assert [name for name, text in given.items() if f"{name}(" not in text] == []


@pytest.mark.parametrize("name", [*examples.CONVERTERS, *examples.EDITORS])
def test_examples_show_something(name: str) -> None:
    assert reference.result(name) not in ("", "nil", "{}", "[]", '""')

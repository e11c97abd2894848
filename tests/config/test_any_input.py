"""Whatever stands in a configuration, the answer is options or errors with a line; never another exception, never a secret."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kofagent.component import registry
from kofagent.config.errors import ConfigErrors
from kofagent.config.load import load_config
from kofagent.config.model import SECTIONS
from kofagent.values import render_values
from tests.support.examples import examples

DOCUMENTS = [
    render_values([], role, generation=generation).manifest()["config"]
    for role in ("node", "k8scluster")
    for generation in ("0.1.1", "0.3.0")
]
SECRET = "zq81hunter"
ENVIRON = {"S": SECRET, "STORAGE_VMUSER_CREDENTIALS_USERNAME": SECRET, "STORAGE_VMUSER_CREDENTIALS_PASSWORD": SECRET}
JUNK: list[Any] = [
    None,
    [],
    {},
    "",
    0,
    -1,
    1.5,
    True,
    "x",
    "${env:S}",
    "p${env:S}",
    "${env:NONE}",
    ["a"],
    [1, [2]],
    {"a": 1},
    {"a": {"b": []}},
    [{}],
    [None],
    "\x00",
    10**30,
    float("nan"),
    float("inf"),
    "5s",
    "-5s",
    "http://",
    {"type": "move"},
    [{"type": "container", "id": 3}],
]


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from paths(value[key], (*path, key))


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    document: dict[str, Any] = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 3))):
        junk = copy.deepcopy(draw(st.sampled_from(JUNK)))
        if draw(st.booleans()):
            # an option nobody set in the default pipelines
            kind = draw(st.sampled_from(SECTIONS))
            type = draw(st.sampled_from(registry.TYPES[kind]))
            fields = list(registry.load(kind, type).Config.model_fields)
            section = document.setdefault(kind, {})
            if fields and isinstance(section, dict) and isinstance(section.setdefault(f"{type}/new", {}), dict):
                section[f"{type}/new"][draw(st.sampled_from(fields))] = junk
            continue
        places = list(paths(document))
        if places:
            *before, last = draw(st.sampled_from(places))
            place = document
            for part in before:
                place = place[part]
            place[last] = junk
    return document


@settings(max_examples=examples(80), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(documents())
def test_only_options_or_errors(document: dict[str, Any]) -> None:
    try:
        config = load_config(["yaml:" + yaml.safe_dump(document)], registry, ENVIRON)
    except ConfigErrors as errors:
        for error in errors.errors:
            assert error.place.line > 0 and error.message
            assert SECRET not in str(error)
            assert not re.search(r"pydantic|[Ii]nput should|function-", str(error)), str(error)
    else:
        assert SECRET not in repr(config) and SECRET not in "".join(map(str, config.warnings))

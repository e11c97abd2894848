"""The JSON Schema takes what the configuration takes and refuses what it refuses."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from kofagent.component import registry
from kofagent.config.schema import duration_text, json_schema
from kofagent.values import render_values
from tests.config import fake


def valid(schema: Any, config: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(schema).is_valid(config))


def config(**sections: Any) -> dict[str, Any]:
    return {"service": {"pipelines": {"logs": {"receivers": ["in"], "exporters": ["out"]}}}, **sections}


@pytest.fixture(scope="module")
def schema() -> Any:
    made = json_schema(fake)
    jsonschema.Draft202012Validator.check_schema(made)
    return json.loads(json.dumps(made))


@pytest.mark.parametrize(
    "options",
    [
        None,
        {},
        {"interval": "5s"},
        {"count": 4, "flag": True},
        {"count": "${env:N}", "flag": "${env:F}"},
        {"nested": None},
        {"nested": {"port": 3}},
        {"many": [{"level": "high"}]},
        {"by_name": {"x": {"name": "n"}, "y": None}},
        {"either": ["a"]},
        {"either": {"port": 1}},
        {"anything": [1, {"a": 2}]},
    ],
)
def test_right_options(schema: Any, options: Any) -> None:
    assert valid(schema, config(receivers={"in": options, "in/2": options}))


@pytest.mark.parametrize(
    "sections",
    [
        {"receivers": {"in": {"cuont": 1}}},
        {"receivers": {"in": {"count": "x"}}},
        {"receivers": {"inn": {}}},
        {"receivers": {"in": {"nested": {"p": 1}}}},
        {"receivers": {"in": {"nested": {"level": "middle"}}}},
        {"recievers": {}},
        {"service": {"pipelines": {"log": {}}}},
        {"service": {"telemetri": {}}},
        {"receivers": {"in": {"count": -1}}},
        {"receivers": {"in": []}},
    ],
)
def test_wrong_configurations(schema: Any, sections: Any) -> None:
    assert not valid(schema, config(**sections))


def test_old_spellings(schema: Any) -> None:
    exporter = {"endpoint": "http://h", "tls": {"server_name": "x"}}
    assert valid(schema, config(exporters={"out_old/x": exporter, "out": exporter}))


@pytest.fixture(scope="module")
def real_schema() -> Any:
    made = json_schema(registry)
    jsonschema.Draft202012Validator.check_schema(made)
    return made


@pytest.mark.slow
@pytest.mark.parametrize(("role", "generation"), [(r, g) for r in ("node", "k8scluster") for g in ("0.1.1", "0.3.0")])
def test_the_default_pipelines_fit_the_real_schema(real_schema: Any, role: str, generation: str) -> None:
    rendered = render_values([], role, generation=generation).manifest()["config"]
    problems = [
        f"{list(e.absolute_path)}: {e.message[:200]}" for e in jsonschema.Draft202012Validator(real_schema).iter_errors(rendered)
    ]
    assert not problems


@pytest.mark.parametrize(("seconds", "text"), [(0, "0"), (0.2, "200ms"), (90, "1m30s"), (3600, "1h"), (5.0, "5s"), (1.5, "1500ms")])
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text

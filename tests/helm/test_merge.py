"""Values are merged as the real helm does it: nulls, lists, maps over scalars and scalars over maps, at any depth, over several files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kofagent.config.merge import merge_files, merge_helm
from kofagent.config.tree import Origin, node_of
from tests.helm.chart import helm

_scalars = st.none() | st.sampled_from([0, 1, True, False, "", "text"])
_values = st.recursive(
    _scalars | st.lists(_scalars, max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=10,
)
_keys = [f"k{i}" for i in range(40)]
_files = st.lists(st.dictionaries(st.sampled_from(_keys), _values, min_size=30), min_size=2, max_size=4)
"""The values of a chart, and those of users over them; each key is a case of its own, so that one run of helm has many."""


@pytest.mark.server("helm")
@given(_files)
@example([{"k0": {"a": {"b": None}}, "k1": None}, {"k0": {"a": {"b": None}}, "k1": None}])
@settings(max_examples=6, suppress_health_check=list(HealthCheck))
def test_values_are_merged_as_helm_does_it(tmp_path_factory: Any, files: list[dict[str, Any]]) -> None:
    chart: Path = tmp_path_factory.mktemp("chart")
    (chart / "templates").mkdir()
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: c\nversion: 0.1.0\n")
    (chart / "templates" / "all.yaml").write_text("all: {{ .Values | toJson }}\n")
    names = [chart / "values.yaml", *(chart / f"user{i}.yaml" for i in range(1, len(files)))]
    for name, values in zip(names, files, strict=True):
        name.write_text(json.dumps(values))
    done = helm("template", "r", str(chart), *(f"--values={name}" for name in names[1:]))
    assert done.returncode == 0, done.stderr
    base, *users = (node_of(values, Origin("f")) for values in files)
    found = merge_helm(base, merge_files(users)).node.plain()
    wanted = json.loads(done.stdout.partition("all: ")[2])
    assert {k: found.get(k, "absent") for k in _keys} == {k: wanted.get(k, "absent") for k in _keys}

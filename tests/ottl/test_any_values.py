"""Every function takes any values: it gives a value or an EvaluationError, never anything else, and leaves a valid record behind."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from kofagent.ottl import Env, EvaluationError, Statement, parse_statement
from kofagent.ottl.env import VISIBLE
from kofagent.ottl.functions import CONVERTERS, EDITORS
from kofagent.ottl.functions.core import Function, Parameter
from kofagent.ottl.items import items
from tests.support.otlp import set_attributes, values

_LITERALS = {'"s"': '"a"', "#i": "3", "#f": "1.5", "#b": "true", '["s"]': '["a", "b"]', "[#f]": "[1.0, 2.5]"}
_NAMED = {
    "ConvertCase.to_case": '"snake"',
    "Time.format": '"%Y-%m-%d %H:%M"',
    "Time.location": '"Europe/Paris"',
    "FormatTime.format": '"%Y-%m-%d %z"',
    "Sort.order": '"desc"',
    "ParseCSV.mode": '"lazyQuotes"',
    "ParseCSV.delimiter": '","',
    "ParseCSV.header_delimiter": '","',
    "ParseSeverity.mapping": '{"info": [{"equals": ["a"]}, {"range": {"min": 0, "max": 9}}]}',
    "GetXML.x_path": '"//a"',
    "RemoveXML.x_path": '"//a | //@b"',
    "InsertXML.x_path": '"//a"',
    "ConvertAttributesToElementsXML.x_path": '"//a"',
    "ConvertTextToElementsXML.x_path": '"//a"',
    "limit.limit": "2",
    "merge_maps.strategy": '"upsert"',
    "replace_all_patterns.mode": '"key"',
    "truncate_all.truncation_marker": '"."',
    "set_semconv_span_name.semconv_version": '"1.37.0"',
    "merge_histogram_buckets.method": '"limit_buckets"',
    "convert_exponential_histogram_to_histogram.distribution_fn": '"uniform"',
    "ParseKeyValue.delimiter": '":"',
    "ToKeyValueString.delimiter": '":"',
}


def _argument(function: Function, parameter: Parameter, number: int) -> str:
    named = _NAMED.get(f"{function.name}.{parameter.name}")
    if named is not None:
        return named
    if parameter.name == "string_agg_temp":
        return '"delta"'
    if parameter.name == "aggregation_function":
        return '"sum"'
    kind = parameter.kind
    if kind in _LITERALS:
        return _LITERALS[kind]
    if kind == "fn":
        return "ToUpperCase"
    path = f'resource.attributes["{"abc"[number % 3]}"]'
    return f"[{path}, {path}]" if kind[0] == "[" else path


def _statement(function: Function) -> tuple[str, Statement]:
    """(context, a statement that calls the function on attributes of the resource)."""
    context = next(c for c in ("log", "span", "metric", "datapoint") if not function.contexts or c in function.contexts)
    arguments = ", ".join(_argument(function, p, i) for i, p in enumerate(function.parameters))
    call = f"{function.name}({arguments})"
    text = call if function.name in EDITORS else f'set(resource.attributes["out"], {call})'
    return context, parse_statement(text, context)


_STATEMENTS = {
    name: _statement(function) for name, function in {**CONVERTERS, **EDITORS}.items() if "conditions" not in function.where
}


def _metrics() -> Any:
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    for kind in ("gauge", "sum", "histogram", "exponential_histogram", "summary"):
        metric = scope.metrics.add(name=kind)
        data = getattr(metric, kind)
        if hasattr(data, "aggregation_temporality"):
            data.aggregation_temporality = 2
        for n in (1, 2):
            point = data.data_points.add(time_unix_nano=n)
            if kind == "histogram":
                point.count, point.sum = 3, 4.5
                point.bucket_counts.extend([1, 2])
                point.explicit_bounds.append(1.0)
            elif kind == "exponential_histogram":
                point.count, point.sum, point.scale = 3, 4.5, n
                point.positive.bucket_counts.extend([1, 2])
            elif kind == "summary":
                point.count, point.sum = 3, 4.5
                point.quantile_values.add(quantile=0.5, value=1.0)
            else:
                point.as_double = n / 2
    scope.metrics.add(name="none")
    return request


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(_STATEMENTS))
@settings(max_examples=15)
@given(given_values=st.fixed_dictionaries(dict.fromkeys("abc", values)))
def test_any_values(name: str, given_values: dict[str, Any]) -> None:
    context, statement = _STATEMENTS[name]
    request = _metrics()
    resource = request.resource_metrics[0].resource
    set_attributes(resource.attributes, given_values)
    if context in ("metric", "datapoint"):
        for number, env in enumerate(items(context, request)):
            assert number < 300, "a statement that adds metrics meets them, too: it must end"
            _apply(statement, env)
    else:
        env = Env(resource)
        env.log, env.span = LogRecord(), Span(name="a")
        assert context in VISIBLE
        _apply(statement, env)
    again = request.SerializeToString()
    assert ExportMetricsServiceRequest.FromString(again).SerializeToString() == again


@pytest.mark.parametrize("name", sorted(_STATEMENTS))
def test_errors_have_no_data_in_them(name: str) -> None:
    context, statement = _STATEMENTS[name]
    for value in ("CANARY", "CANARY=[{(<", {"CANARY": ["CANARY"]}, ["CANARY"], b"CANARY"):
        request = _metrics()
        set_attributes(request.resource_metrics[0].resource.attributes, dict.fromkeys("abc", value))
        env = next(items(context if context in ("metric", "datapoint") else "resource", request))
        env.log, env.span = env.log or LogRecord(), env.span or Span()
        try:
            statement.apply(env)
        except EvaluationError as error:
            assert "CANARY" not in str(error)  # noqa: PT017 - the error is the expected answer to most values


def _apply(statement: Statement, env: Env) -> None:
    try:
        statement.apply(env)
    except EvaluationError as error:
        assert len(str(error)) < 1000  # noqa: PT017 - the error is the expected answer to most values

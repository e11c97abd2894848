"""Functions about metrics and their data points: conversions, extracted metrics, aggregation."""

from __future__ import annotations

import math
from typing import Any

from kofagent.ottl.env import Env
from kofagent.ottl.errors import EvaluationError
from kofagent.ottl.functions.core import MISSING, converter, editor
from kofagent.ottl.paths import points
from kofagent.ottl.types import kind
from kofagent.transform.aggregation import NUMBERS, merged
from kofagent.transform.anyvalue import to_python

_TEMPORALITY = {"delta": 1, "cumulative": 2}
_HISTOGRAMS = ("histogram", "exponential_histogram")


def _temporality(string_agg_temp: str | None = None, **_: Any) -> None:
    if string_agg_temp is not None and string_agg_temp not in _TEMPORALITY:
        raise EvaluationError(f"{string_agg_temp!r} is no temporality; known: delta, cumulative")


# Conditions of the filter


@converter('HasAttrKeyOnDatapoint(key "s")', contexts="metric", env=True, where="conditions")
def has_attr_key_on_datapoint(env: Env, key: str) -> bool:
    """Whether a data point has the attribute."""
    return any(item.key == key for point in points(env.metric) for item in point.attributes)


@converter('HasAttrOnDatapoint(key "s", expected "s")', contexts="metric", env=True, where="conditions")
def has_attr_on_datapoint(env: Env, key: str, expected: str) -> bool:
    """Whether the first data point that has the attribute has this value."""
    if env.metric.WhichOneof("data") is None:
        raise EvaluationError("HasAttrOnDatapoint: the metric has no data")
    for point in points(env.metric):
        found = next((item.value for item in point.attributes if item.key == key), None)
        if found is not None:
            return bool(found.string_value == expected and found.WhichOneof("value") == "string_value")
    return False


# Conversions


@editor('convert_gauge_to_sum(string_agg_temp "s", monotonic #b)', contexts="metric", env=True, check=_temporality)
def convert_gauge_to_sum(env: Env, temporality: str, monotonic: bool) -> None:
    """Makes a gauge a sum."""
    metric = env.metric
    if metric.WhichOneof("data") != "gauge":
        return
    data = [copy(p) for p in metric.gauge.data_points]
    metric.sum.SetInParent()
    metric.sum.data_points.extend(data)
    metric.sum.aggregation_temporality = _TEMPORALITY[temporality]
    metric.sum.is_monotonic = monotonic


@editor("convert_sum_to_gauge()", contexts="metric", env=True)
def convert_sum_to_gauge(env: Env) -> None:
    """Makes a sum a gauge."""
    metric = env.metric
    if metric.WhichOneof("data") != "sum":
        return
    data = [copy(p) for p in metric.sum.data_points]
    metric.gauge.SetInParent()
    metric.gauge.data_points.extend(data)


def copy(message: Any) -> Any:
    """A copy of a message."""
    new = type(message)()
    new.CopyFrom(message)
    return new


def _added_metric(env: Env) -> Any:
    """A new metric at the end of the scope. EvaluationError where there are too many: a statement meets those it adds."""
    metrics = env.scope_entry.metrics
    if len(metrics) >= env.most_metrics:
        raise EvaluationError(f"the scope would have more than {env.most_metrics} metrics; add a `where` that leaves out new ones")
    return metrics.add()


def _new_metric(env: Env, suffix: str) -> Any:
    """A metric at the end of the scope, named after the one at hand."""
    new = _added_metric(env)
    new.name = env.metric.name + suffix
    new.description = env.metric.description
    new.unit = env.metric.unit
    return new


def _as_sum(new: Any, temporality: int, monotonic: bool) -> Any:
    new.sum.SetInParent()
    new.sum.aggregation_temporality = temporality
    new.sum.is_monotonic = monotonic
    return new.sum


def take_over(target: Any, point: Any) -> None:
    """What a number data point has of another point: attributes, times, flags."""
    target.attributes.extend(point.attributes)
    target.start_time_unix_nano = point.start_time_unix_nano
    target.time_unix_nano = point.time_unix_nano


def _extract(env: Env, monotonic: bool, suffix: str, field: str, what: str) -> None:
    metric = env.metric
    kind = metric.WhichOneof("data")
    if kind not in (*_HISTOGRAMS, "summary"):
        raise EvaluationError(
            f"{what} needs a histogram, an exponential histogram or a summary, not a {kind or 'metric without data'}"
        )
    temporality = 2 if kind == "summary" else getattr(metric, kind).aggregation_temporality
    if temporality not in (1, 2):
        raise EvaluationError(f"{what} needs delta or cumulative temporality")
    source = list(points(metric))
    new = _new_metric(env, suffix)
    if field == "count":
        new.unit = "1"
    data = _as_sum(new, temporality, monotonic)
    for point in source:
        if field == "sum" and kind != "summary" and not point.HasField("sum"):
            continue
        number = data.data_points.add()
        take_over(number, point)
        if field == "sum":
            number.as_double = point.sum
        else:
            number.as_int = point.count
    if not data.data_points:
        del env.scope_entry.metrics[-1]


@editor('extract_sum_metric(monotonic #b, suffix? "s"="_sum")', contexts="metric", env=True)
def extract_sum_metric(env: Env, monotonic: bool, suffix: str) -> None:
    """Adds a metric with the sums of a histogram or summary."""
    _extract(env, monotonic, suffix, "sum", "extract_sum_metric")


@editor('extract_count_metric(monotonic #b, suffix? "s"="_count")', contexts="metric", env=True)
def extract_count_metric(env: Env, monotonic: bool, suffix: str) -> None:
    """Adds a metric with the counts of a histogram or summary."""
    _extract(env, monotonic, suffix, "count", "extract_count_metric")


def _percentile(percentile: float | None = None, **_: Any) -> None:
    if percentile is not None and not 0 < percentile < 100:
        raise EvaluationError("the percentile is above 0 and below 100")


@editor('extract_percentile_metric(percentile #f, suffix? "s")', contexts="metric", env=True, check=_percentile)
def extract_percentile_metric(env: Env, percentile: float, suffix: str | None) -> None:
    """Adds a gauge with a percentile of a histogram, estimated from its buckets."""
    metric = env.metric
    kind = metric.WhichOneof("data")
    if kind not in _HISTOGRAMS:
        raise EvaluationError(f"extract_percentile_metric needs a histogram, not a {kind or 'metric without data'}")
    estimate = _of_buckets if kind == "histogram" else _of_exponential
    found = [(point, estimate(point, percentile)) for point in points(metric) if point.count]
    if not found:
        return
    new = _new_metric(env, suffix if suffix is not None else f"_p{percentile:g}")
    new.description = f"{new.description} (p{percentile:g})" if new.description else f"p{percentile:g}"
    new.gauge.SetInParent()
    for point, value in found:
        number = new.gauge.data_points.add()
        take_over(number, point)
        number.as_double = value


def _of_buckets(point: Any, percentile: float) -> float:
    counts, bounds = list(point.bucket_counts), list(point.explicit_bounds)
    if not counts or len(counts) != len(bounds) + 1:
        raise EvaluationError("extract_percentile_metric: the buckets do not fit their bounds")
    rank, below = math.ceil(percentile / 100 * point.count), 0
    for i, count in enumerate(counts):
        if count and below + count >= rank:
            if i == len(bounds):
                return float(point.max if point.HasField("max") else bounds[-1] if bounds else 0.0)
            lower = bounds[i - 1] if i else (point.min if point.HasField("min") else min(0.0, bounds[0]))
            return float(lower + (bounds[i] - lower) * (rank - below) / count)
        below += count
    return float(bounds[-1] if bounds else 0.0)


def exp(power: float) -> float:
    """e to the power; infinite where a double has no such number."""
    return math.exp(power) if power < 709 else math.inf


def _of_exponential(point: Any, percentile: float) -> float:
    """From the lowest bucket up; inside of a bucket along its logarithm, as its bounds grow."""
    rank, below = math.ceil(percentile / 100 * point.count), 0
    growth = math.ldexp(math.log(2), -point.scale)
    negative = list(point.negative.bucket_counts)
    for i in range(len(negative) - 1, -1, -1):
        if negative[i] and below + negative[i] >= rank:
            return -exp((point.negative.offset + i + 1 - (rank - below) / negative[i]) * growth)
        below += negative[i]
    below += point.zero_count
    if below >= rank:
        return 0.0
    value = 0.0
    for i, count in enumerate(point.positive.bucket_counts):
        if not count:
            continue
        value = exp((point.positive.offset + i + min(1.0, (rank - below) / count)) * growth)
        if below + count >= rank:
            break
        below += count
    return value


def _of_summary(env: Env, temporality: str, monotonic: bool, suffix: str, field: str) -> None:
    metric = env.metric
    if metric.WhichOneof("data") != "summary":
        return
    new = _as_sum(_new_metric(env, suffix), _TEMPORALITY[temporality], monotonic)
    for point in metric.summary.data_points:
        number = new.data_points.add()
        take_over(number, point)
        number.flags = point.flags
        if field == "sum":
            number.as_double = point.sum
        else:
            number.as_int = point.count


@editor(
    'convert_summary_sum_val_to_sum(string_agg_temp "s", monotonic #b, suffix? "s"="_sum")',
    contexts="datapoint",
    env=True,
    check=_temporality,
)
def convert_summary_sum_val_to_sum(env: Env, temporality: str, monotonic: bool, suffix: str) -> None:
    """Adds a metric with the sums of a summary."""
    _of_summary(env, temporality, monotonic, suffix, "sum")


@editor(
    'convert_summary_count_val_to_sum(string_agg_temp "s", monotonic #b, suffix? "s"="_count")',
    contexts="datapoint",
    env=True,
    check=_temporality,
)
def convert_summary_count_val_to_sum(env: Env, temporality: str, monotonic: bool, suffix: str) -> None:
    """Adds a metric with the counts of a summary."""
    _of_summary(env, temporality, monotonic, suffix, "count")


@editor(
    'convert_summary_quantile_val_to_gauge(attribute_key? "s"="quantile", suffix? "s"=".quantiles")', contexts="metric", env=True
)
def convert_summary_quantile_val_to_gauge(env: Env, attribute_key: str, suffix: str) -> None:
    """Adds a gauge with the quantiles of a summary."""
    metric = env.metric
    if metric.WhichOneof("data") != "summary":
        return
    source = list(metric.summary.data_points)
    new = _new_metric(env, suffix)
    new.gauge.SetInParent()
    for point in source:
        for quantile in point.quantile_values:
            number = new.gauge.data_points.add()
            take_over(number, point)
            entry = next((i for i in number.attributes if i.key == attribute_key), None) or number.attributes.add(key=attribute_key)
            entry.value.double_value = quantile.quantile
            number.as_double = quantile.value


@editor("copy_metric(name? A=missing, description? A=missing, unit? A=missing)", contexts="metric", env=True)
def copy_metric(env: Env, name: Any, description: Any, unit: Any) -> None:
    """Adds a copy of the metric, perhaps with another name, description or unit."""
    copied = copy(env.metric)
    new = _added_metric(env)
    new.CopyFrom(copied)
    # As upstream, a value of a wrong kind leaves the copy behind.
    for field, value in (("name", name), ("description", description), ("unit", unit)):
        if value is not MISSING:
            if not isinstance(value, str):
                raise EvaluationError(f"copy_metric: {field} is a string, not {kind(value)}")
            setattr(new, field, value)


@editor("scale_metric(multiplier #f, unit? S)", contexts="metric", env=True)
def scale_metric(env: Env, multiplier: float, unit: str | None) -> None:
    """Multiplies the values of a metric."""
    metric = env.metric
    kind = metric.WhichOneof("data")
    if kind in (None, "exponential_histogram"):
        raise EvaluationError(f"scale_metric cannot scale a {kind or 'metric without data'}")
    for point in points(metric):
        if kind in ("gauge", "sum"):
            if point.HasField("as_int"):
                point.as_int = max(-(1 << 63), min((1 << 63) - 1, int(point.as_int * multiplier)))
            elif point.HasField("as_double"):
                point.as_double *= multiplier
        elif kind == "histogram":
            for name in ("sum", "min", "max"):
                if point.HasField(name):
                    setattr(point, name, getattr(point, name) * multiplier)
            bounds = [bound * multiplier for bound in point.explicit_bounds]
            point.explicit_bounds[:] = bounds
            for exemplar in point.exemplars:
                if exemplar.HasField("as_int"):
                    exemplar.as_int = int(exemplar.as_int * multiplier)
                elif exemplar.HasField("as_double"):
                    exemplar.as_double *= multiplier
        else:
            point.sum *= multiplier
            for quantile in point.quantile_values:
                quantile.value *= multiplier
    if unit is not None:
        metric.unit = unit


# Aggregation


def _aggregation(aggregation_function: str | None = None, **_: Any) -> None:
    if aggregation_function is not None and aggregation_function not in NUMBERS:
        raise EvaluationError(f"{aggregation_function!r} is no aggregation; known: {', '.join(NUMBERS)}")


@editor('aggregate_on_attributes(aggregation_function "s", attributes? ["s"])', contexts="metric", env=True, check=_aggregation)
def aggregate_on_attributes(env: Env, function: str, attributes: list[str] | None) -> None:
    """Drops the other attributes of the data points and makes one of those that become equal."""
    metric = _aggregated_kind(env, function, "aggregate_on_attributes")
    for point in points(metric):
        kept = [item for item in point.attributes if attributes is not None and item.key in attributes]
        kept = [copy(item) for item in kept]
        del point.attributes[:]
        point.attributes.extend(kept)
    _merge(metric, function, [copy(point) for point in points(metric)], [])


@editor(
    'aggregate_on_attribute_value(aggregation_function "s", attribute "s", values ["s"], new_value "s")',
    contexts="metric",
    env=True,
    check=_aggregation,
)
def aggregate_on_attribute_value(env: Env, function: str, attribute: str, values: list[str], new_value: str) -> None:
    """Gives an attribute a new value and makes one of the data points that become equal."""
    metric = _aggregated_kind(env, function, "aggregate_on_attribute_value")
    matched: list[Any] = []
    others: list[Any] = []
    for point in points(metric):
        item = next((i for i in point.attributes if i.key == attribute and to_python(i.value) in values), None)
        if item is not None:
            item.value.string_value = new_value
        (others if item is None else matched).append(copy(point))
    _merge(metric, function, matched, others)


def _aggregated_kind(env: Env, function: str, what: str) -> Any:
    kind = env.metric.WhichOneof("data")
    if kind in (None, "summary"):
        raise EvaluationError(f"{what} cannot aggregate a {kind or 'metric without data'}")
    if kind in _HISTOGRAMS and function != "sum":
        raise EvaluationError(f"{what}: histograms can only be summed")
    return env.metric


def _merge(metric: Any, function: str, matched: list[Any], others: list[Any]) -> None:
    """The points `others`, and one point instead of those `matched` with equal attributes and times."""
    try:
        new = merged(metric, function, matched)
    except ValueError as error:
        raise EvaluationError(str(error)) from None
    target = points(metric)
    del target[:]
    target.extend([*others, *new])


# Buckets

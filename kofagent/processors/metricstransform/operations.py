"""What the operations of a transform do to one metric, a message of Google's.

Each is a function of the metric, of whether its points match (`Matches`), and of whether all of it may be changed: with `update`,
that is so where all points match.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from kofagent import __version__
from kofagent.processors.metricstransform.config import Operation
from kofagent.transform.aggregation import merged

Matches = Callable[[Any], bool]
"""Whether a data point has the labels of the transform."""
Apply = Callable[[Any, Matches, bool], None]
"""Impossible where it cannot be done."""

SCALARS = ("gauge", "sum")
_MIN, _MAX = -(1 << 63), (1 << 63) - 1


class Impossible(Exception):
    """The metric cannot be changed so; the message says why, without names of the data."""


def points(metric: Any) -> Any:
    """The data points of a metric; none where it has no data."""
    kind = metric.WhichOneof("data")
    return getattr(metric, kind).data_points if kind else ()


def label(point: Any, key: str) -> Any:
    """The value of a label, a message; None where the point lacks it."""
    return next((item.value for item in point.attributes if item.key == key), None)


def put_label(point: Any, key: str, text: str) -> None:
    """Sets a label."""
    value = label(point, key)
    if value is None:
        value = point.attributes.add(key=key).value
    value.string_value = text


def remove_labels(point: Any, gone: Callable[[str], bool]) -> None:
    """Removes the labels whose names are `gone`."""
    for i in range(len(point.attributes) - 1, -1, -1):
        if gone(point.attributes[i].key):
            del point.attributes[i]


def aggregate(metric: Any, function: str) -> None:
    """Points with equal labels and times become one. Impossible for summaries."""
    if metric.WhichOneof("data") == "summary":
        raise Impossible("summaries cannot be aggregated")
    target = points(metric)
    if not target:
        return
    try:
        new = merged(metric, function, [_copy(point) for point in target])
    except ValueError as error:
        raise Impossible(str(error)) from None
    del target[:]
    target.extend(new)


def _copy(message: Any) -> Any:
    new = type(message)()
    new.CopyFrom(message)
    return new


def compile_operation(block: Operation) -> Apply:
    """The function of an operation."""
    return _COMPILERS[block.action](block)


def text_of(value: str) -> str:
    """A value as it is written, with the agent's version in the place of `{{version}}`."""
    return value.replace("{{version}}", __version__)


def _add_label(block: Operation) -> Apply:
    key, text = block.new_label, text_of(block.new_value)

    def apply(metric: Any, matches: Matches, whole: bool) -> None:
        for point in points(metric) if whole else ():
            if label(point, key) is None:
                put_label(point, key, text)

    return apply


def _update_label(block: Operation) -> Apply:
    values = {each.value: text_of(each.new_value) for each in block.value_actions}
    old, new = block.label, block.new_label or block.label

    def apply(metric: Any, matches: Matches, whole: bool) -> None:
        for point in points(metric):
            if not matches(point):
                continue
            value = label(point, old)
            if value is None:
                continue
            if value.string_value in values:
                value.string_value = values[value.string_value]
            if new != old:
                remove_labels(point, new.__eq__)
                next(item for item in point.attributes if item.key == old).key = new

    return apply


def _delete_label_value(block: Operation) -> Apply:
    def apply(metric: Any, matches: Matches, whole: bool) -> None:
        if not whole:
            return
        data = points(metric)
        for i in range(len(data) - 1, -1, -1):
            value = label(data[i], block.label)
            if value is not None and value.string_value == block.label_value:
                del data[i]

    return apply


def _aggregate_labels(block: Operation) -> Apply:
    kept = frozenset(block.label_set)

    def apply(metric: Any, matches: Matches, whole: bool) -> None:
        if not whole:
            return
        if metric.WhichOneof("data") == "summary":
            raise Impossible("summaries cannot be aggregated")
        for point in points(metric):
            remove_labels(point, lambda key: key not in kept)
        aggregate(metric, block.aggregation_type or "sum")

    return apply


def _aggregate_label_values(block: Operation) -> Apply:
    values, text = frozenset(block.aggregated_values), text_of(block.new_value)

    def apply(metric: Any, matches: Matches, whole: bool) -> None:
        if not whole:
            return
        if metric.WhichOneof("data") == "summary":
            raise Impossible("summaries cannot be aggregated")
        for point in points(metric):
            value = label(point, block.label)
            if value is not None and value.string_value in values:
                value.string_value = text
        aggregate(metric, block.aggregation_type or "sum")

    return apply


def whole_number(value: float) -> int:
    """A number without its fraction, within 64 bits; 0 for what is none."""
    if math.isnan(value):
        return 0
    return int(max(float(_MIN), min(float(_MAX), value))) if abs(value) < _MAX else (_MAX if value > 0 else _MIN)


def _toggle(block: Operation) -> Apply:
    def apply(metric: Any, matches: Matches, whole: bool) -> None:
        if metric.WhichOneof("data") not in SCALARS:
            return
        for point in points(metric):
            kind = point.WhichOneof("value")
            if kind is None or not matches(point):
                continue
            if kind == "as_int":
                point.as_double = float(point.as_int)
            else:
                point.as_int = whole_number(point.as_double)

    return apply


def _scale(block: Operation) -> Apply:
    factor = block.experimental_scale

    def apply(metric: Any, matches: Matches, whole: bool) -> None:
        kind = metric.WhichOneof("data")
        for point in points(metric):
            if kind == "summary" or not matches(point):
                continue
            if kind in SCALARS:
                _scale_number(point, factor)
                continue
            for name in ("sum", "min", "max"):
                if point.HasField(name):
                    setattr(point, name, getattr(point, name) * factor)
            if kind == "histogram":
                point.explicit_bounds[:] = [bound * factor for bound in point.explicit_bounds]
            else:
                point.zero_threshold *= factor
                for side in (point.positive, point.negative):
                    if side.bucket_counts:
                        side.offset = _moved(side.offset, point.scale, factor)
            for exemplar in point.exemplars:
                _scale_number(exemplar, factor)

    return apply


def _scale_number(point: Any, factor: float) -> None:
    kind = point.WhichOneof("value")
    if kind == "as_int":
        point.as_int = whole_number(float(point.as_int) * factor)
    elif kind == "as_double":
        point.as_double *= factor


def _moved(offset: int, scale: int, factor: float) -> int:
    """The offset of the bucket in which the middle of the bucket `offset` is when it is multiplied."""
    # In logarithms, where no power of the base is too large for a float.
    width = math.ldexp(math.log(2), -max(-1000, min(1000, scale)))
    middle = offset * width + width + math.log1p(math.exp(-width)) - math.log(2)
    moved = math.ceil((middle + math.log(abs(factor))) / width) - 1
    return max(-(1 << 31), min((1 << 31) - 1, moved))


_COMPILERS: dict[str, Callable[[Operation], Apply]] = {
    "add_label": _add_label,
    "update_label": _update_label,
    "delete_label_value": _delete_label_value,
    "toggle_scalar_data_type": _toggle,
    "experimental_scale_value": _scale,
    "aggregate_labels": _aggregate_labels,
    "aggregate_label_values": _aggregate_label_values,
}

"""The error of an operator on an entry, and the words for the kinds of values in it."""

from __future__ import annotations

from typing import Any

from kofagent.operators.expression import ExpressionError
from kofagent.operators.field import FieldError


class OperatorError(Exception):
    """An operator cannot do its work on this entry; the message has no data of the entry in it."""


DECLARED = (OperatorError, FieldError, ExpressionError)
"""What operators raise on purpose. Any other exception is a defect."""


def type_name(value: Any) -> str:
    """The kind of a value, for messages."""
    return {
        type(None): "null",
        dict: "a map",
        list: "a list",
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "a string",
        bytes: "bytes",
    }.get(type(value), type(value).__name__)

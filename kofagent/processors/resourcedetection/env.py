"""The env detector: OTEL_RESOURCE_ATTRIBUTES, `key=value,key=value` with percent-encoded values (resource SDK specification)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from kofagent.processors.resourcedetection.blocks import EnvBlock

VARIABLES = ("OTEL_RESOURCE_ATTRIBUTES", "OTEL_RESOURCE")
"""The second one is the deprecated name, used where the first is empty."""


def detect(options: EnvBlock, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The attributes; ValueError if the variable is malformed (its value is not in the message)."""
    for variable in VARIABLES:
        text = environ.get(variable, "").strip()
        if text:
            found = parse(text, variable)
            return found if options.allowlist is None else {k: v for k, v in found.items() if k in options.allowlist}
    return {}


def parse(text: str, variable: str = VARIABLES[0]) -> dict[str, str]:
    """`a=1,b=x%20y` as a dict; a later value of a key wins, a trailing comma is allowed."""
    out: dict[str, str] = {}
    parts = text.split(",")
    if len(parts) > 1 and not parts[-1].strip():
        parts.pop()
    for i, part in enumerate(parts, 1):
        key, equals, value = part.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or not key:
            raise ValueError(f"entry {i} of {variable} is not of the form key=value")
        if re.search("%(?![0-9A-Fa-f]{2})", value):
            raise ValueError(f"the value of {key!r} in {variable} has a % that is not followed by two hex digits; write %25")
        # Upstream reads + as a space too, as in a query string.
        out[key] = unquote_to_bytes(value.replace("+", " ")).decode("utf-8", "surrogateescape")
    return out

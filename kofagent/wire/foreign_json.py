"""JSON that others wrote, such as the answers of servers: a value whose strings can be written as UTF-8, or ValueError."""

from __future__ import annotations

import json
import re
from typing import Any

_MAY_HAVE_LONE = re.compile(rb"\\u[dD][89a-fA-F]")
_LONE = re.compile("[\ud800-\udfff]")


def read_json(data: bytes | str) -> Any:
    """The value. Escapes of half a character are U+FFFD, as Go reads them. ValueError for what is no JSON or nested too deeply."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    try:
        value = json.loads(raw)
        return whole(value) if _MAY_HAVE_LONE.search(raw) else value
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError:
        raise
    except UnicodeDecodeError:
        raise ValueError("not valid UTF-8") from None
    except ValueError:
        raise ValueError("a number has too many digits") from None  # what is left of int()


def whole(value: Any) -> Any:
    """The value with U+FFFD for every half of a character in its strings."""
    if isinstance(value, str):
        return _LONE.sub("\ufffd", value)
    if isinstance(value, list):
        return [whole(one) for one in value]
    if isinstance(value, dict):
        return {whole(key): whole(one) for key, one in value.items()}
    return value

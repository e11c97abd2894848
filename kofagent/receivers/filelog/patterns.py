"""Regular expressions in options: RE2, with an error that names the option."""

from __future__ import annotations

from typing import Any

import re2


def compiled(pattern: str, option: str, flags: str = "") -> Any:
    """The RE2 pattern, behind `flags` such as `(?m)`; ValueError naming the option when it is not one."""
    try:
        return re2.compile(flags + pattern, _quiet())
    except re2.error as error:
        raise ValueError(f"{option}: {pattern!r} is not a regular expression (RE2): {_text(error)}") from None


def _quiet() -> Any:
    options = re2.Options()
    options.log_errors = False
    return options


def _text(error: Exception) -> str:
    what = error.args[0] if error.args else error
    return what.decode("utf-8", "replace") if isinstance(what, bytes) else str(what)

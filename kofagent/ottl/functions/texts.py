"""Texts: searching, cutting, changing."""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from typing import Any

from kofagent.ottl.errors import EvaluationError
from kofagent.ottl.functions.core import converter
from kofagent.ottl.functions.format import sprintf
from kofagent.ottl.types import Strings, equal, kind


@converter("IsMatch(target S~, pattern R)")
def is_match(target: str | None, pattern: Any) -> bool:
    """Whether an RE2 expression is found in the text; false for nil."""
    return target is not None and pattern.search(target) is not None


@converter("HasPrefix(target S, prefix S)")
def has_prefix(target: str, prefix: str) -> bool:
    """Whether the text begins with the prefix."""
    return target.startswith(prefix)


@converter("HasSuffix(target S, suffix S)")
def has_suffix(target: str, suffix: str) -> bool:
    """Whether the text ends with the suffix."""
    return target.endswith(suffix)


@converter("Trim(target S, replacement? S= )")
def trim(target: str, replacement: str | None) -> str:
    """The text without the given characters at both ends."""
    return target.strip(" " if replacement is None else replacement) if replacement != "" else target


@converter("TrimPrefix(target S, prefix S)")
def trim_prefix(target: str, prefix: str) -> str:
    """The text without the prefix."""
    return target.removeprefix(prefix)


@converter("TrimSuffix(target S, suffix S)")
def trim_suffix(target: str, suffix: str) -> str:
    """The text without the suffix."""
    return target.removesuffix(suffix)


@converter("Split(target S, delimiter S)")
def split(target: str, delimiter: str) -> Strings:
    """The parts between delimiters."""
    return Strings(target.split(delimiter) if delimiter else list(target))


@converter("Concat(vals [S~], delimiter S)")
def concat(vals: list[str | None], delimiter: str) -> str:
    """The values as one text with a delimiter between them; nil shows as <nil>."""
    return delimiter.join(["<nil>" if v is None else v for v in vals])


@converter("Substring(target S, start I, length I, utf8_safe? #b=false)")
def substring(target: str, start: int, length: int, utf8_safe: bool) -> str:
    """A piece of the text, counted in bytes; it must lie inside."""
    if start < 0 or length <= 0:
        raise EvaluationError("Substring needs a start of at least 0 and a length of at least 1")
    data = target.encode("utf-8", "surrogatepass")
    end = start + length
    if end > len(data):
        raise EvaluationError(f"Substring exceeds the length of {len(data)} bytes")
    if utf8_safe:
        while start < len(data) and data[start] & 0xC0 == 0x80:
            start += 1
        while end > start and end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
    return data[start:end].decode("utf-8", "replace")


@converter("Index(target A, value A)")
def index_of(target: Any, value: Any) -> int:
    """Where a text is in a text, in bytes, or a value in a list; -1 if nowhere."""
    if isinstance(target, str):
        if not isinstance(value, str):
            raise EvaluationError(f"Index: a string is looked for in a string, not {kind(value)}")
        return target.encode("utf-8", "surrogatepass").find(value.encode("utf-8", "surrogatepass"))
    if isinstance(target, list):
        return next((i for i, v in enumerate(target) if equal(v, value)), -1)
    raise EvaluationError(f"Index needs a string or a list, not {kind(target)}")


@converter("ToLowerCase(target S)")
def to_lower_case(target: str) -> str:
    """The text in small letters."""
    return _lower(target)


@converter("ToUpperCase(target S)")
def to_upper_case(target: str) -> str:
    """The text in capital letters, each letter on its own."""
    return _upper(target)


def _lower(text: str) -> str:
    return text.lower() if text.isascii() else "".join(c.lower()[:1] for c in text)


def _upper(text: str) -> str:
    # Go maps letter by letter, so that what has no single capital stays.
    return text.upper() if text.isascii() else "".join(c if len(c.upper()) > 1 else c.upper() for c in text)


@converter("ToSnakeCase(target S)")
def to_snake_case(target: str) -> str:
    """The text as snake_case."""
    text = re.sub(r"[\s\-.]+", "_", target.strip())
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])", "_", text)
    # Looking around keeps it linear: a repetition in front would be tried again from every letter of a run.
    return _lower(re.sub(r"(?<=[A-Z])(?=[A-Z][a-z])", "_", text))


@converter("ToCamelCase(target S)")
def to_camel_case(target: str) -> str:
    """The text as CamelCase; letters outside of ASCII vanish, as upstream."""
    text = re.sub(r"[^A-Za-z0-9\s_.\-]", "", target)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[0-9])(?=[A-Za-z])", "_", text)
    return "".join(word[:1].upper() + word[1:].lower() for word in re.split(r"[\s_.\-]+", text) if word)


_CASES = {"lower": to_lower_case, "upper": to_upper_case, "snake": to_snake_case, "camel": to_camel_case}


def _known_case(to_case: str | None = None, **_: Any) -> None:
    if to_case is not None and to_case not in _CASES:
        raise EvaluationError(f"{to_case!r} is no case; known: {', '.join(_CASES)}")


@converter('ConvertCase(target S, to_case "s")', check=_known_case)
def convert_case(target: str, to_case: str) -> str:
    """The text in one of the cases lower, upper, snake, camel."""
    return str(_CASES[to_case](target))


@converter('Format(format "s", vals [A])')
def format_text(text: str, vals: list[Any]) -> str:
    """Values filled into a format, as Go's Sprintf."""
    return sprintf(text, vals)


_BASE64 = {"base64": (False, True), "base64-raw": (False, False), "base64-url": (True, True), "base64-raw-url": (True, False)}
_URL_SAFE = str.maketrans("-_", "+/")


def _known_variant(variant: str | None = None, encoding: str | None = None, **_: Any) -> None:
    if variant is not None and variant not in _BASE64:
        raise EvaluationError(f"no such variant of base64; known: {', '.join(_BASE64)}")


@converter('Base64Encode(target S, variant? S="base64")', check=_known_variant)
def base64_encode(target: str, variant: str) -> str:
    """The text in base64 or one of its variants."""
    _known_variant(variant)
    url, padded = _BASE64[variant]
    data = target.encode("utf-8", "surrogatepass")
    text = (base64.urlsafe_b64encode(data) if url else base64.b64encode(data)).decode()
    return text if padded else text.rstrip("=")


@converter("Base64Decode(target S)")
def base64_decode(target: str) -> str:
    """What a text in base64 says."""
    return _unbase64(target, "base64")


def _unbase64(text: str, variant: str) -> str:
    url, padded = _BASE64[variant]
    text = re.sub(r"[\r\n]", "", text)
    if (re.search(r"[+/]", text) if url else re.search(r"[-_]", text)) or (not padded and "=" in text):
        raise EvaluationError(f"not {variant}")
    text = text.translate(_URL_SAFE) if url else text
    if not padded:
        text += "=" * (-len(text) % 4)
    try:
        return base64.b64decode(text, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        raise EvaluationError(f"not {variant}") from None


def _known_encoding(encoding: str | None = None, **_: Any) -> None:
    if encoding is None or encoding in _BASE64:
        return
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise EvaluationError("unknown encoding") from None


@converter("Decode(target A, encoding S)", check=_known_encoding)
def decode(target: Any, encoding: str) -> str:
    """What a text or bytes say in base64 or a character set."""
    if isinstance(target, str):
        if encoding in _BASE64:
            return _unbase64(target, encoding)
        data = target.encode("utf-8", "surrogatepass")
    elif isinstance(target, bytes):
        if encoding in _BASE64:
            return _unbase64(target.decode("latin-1"), encoding)
        data = target
    else:
        raise EvaluationError(f"Decode needs a string or bytes, not {kind(target)}")
    _known_encoding(encoding)
    try:
        return data.decode(encoding, "replace")
    except (LookupError, ValueError):
        raise EvaluationError("the text cannot be decoded") from None


@converter("IsValidLuhn(target S~)")
def is_valid_luhn(target: str | None) -> bool:
    """Whether the digits have a valid check digit (Luhn); spaces do not count."""
    if target is None:
        raise EvaluationError("IsValidLuhn needs a text")
    digits = target.replace(" ", "")
    if not digits:
        return False
    if not re.fullmatch("[0-9]+", digits):
        raise EvaluationError("IsValidLuhn needs digits")
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0

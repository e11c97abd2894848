"""What may be shown of values that can hold a secret: the one place that decides it, for logs, pages, `render` and errors.

Options of the type `Secret` are hidden. Headers are secrets except those that are known to say only what is sent, for whom and
how; so are the values in the query of a URL, and logins in URLs always.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from urllib.parse import unquote, unquote_plus, urlsplit

MASK = "***"
"""Stands where a secret was. A configuration that holds it in place of a secret is refused."""

_HEADERS = frozenset(
    (
        "accept",
        "accept-charset",
        "accept-encoding",
        "accept-language",
        "accountid",
        "ar-reader-cluster-id",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-security-policy",
        "content-type",
        "host",
        "origin",
        "projectid",
        "stream-name",
        "te",
        "traceparent",
        "user-agent",
        "x-content-type-options",
        "x-frame-options",
        "x-honeycomb-dataset",
        "x-prometheus-refresh-interval-seconds",
        "x-prometheus-remote-write-version",
        "x-prometheus-scrape-timeout-seconds",
        "x-scope-orgid",
        "x-tenant",
        "x-tenant-id",
    )
)
_HEADER_PREFIXES = ("vl-", "access-control-")
_PARAMETERS = frozenset(
    (
        "_msg_field",
        "_stream_fields",
        "_time_field",
        "accountid",
        "collect",
        "collect[]",
        "debug",
        "exclude",
        "exclude[]",
        "extra_fields",
        "extra_filters",
        "extra_filters[]",
        "extra_label",
        "format",
        "hostname",
        "ignore_fields",
        "limit",
        "match",
        "match[]",
        "module",
        "name",
        "name[]",
        "namespace",
        "projectid",
        "target",
        "timeout",
    )
)

_LOGIN = re.compile(r"(\A|//|(?<=['\"]))([^/\s\"'<>?#]*)@")
_QUERY = re.compile(r"\?[^\s\"'<>]*")
_PAIR = re.compile(r"([?&;])([^=&;#]*)=([^&;#]*)")
_SHORTEST = 4


def header_shown(name: str) -> bool:
    """Whether values of a header are shown."""
    name = name.strip().lower()
    return name in _HEADERS or name.startswith(_HEADER_PREFIXES)


def parameter_shown(name: str) -> bool:
    """Whether values of a parameter in a query are shown."""
    return name.strip().lower() in _PARAMETERS


def without_secrets(text: str) -> str:
    """A text without the passwords in its URLs, or what was meant as one, and without the values in their queries.

    References (`${env:X}`) are no secrets.
    """
    if "@" in text:
        text = _LOGIN.sub(_login, text)
    if "?" in text:
        text = _QUERY.sub(lambda query: _PAIR.sub(_pair, query[0]), text)
    return text


def _login(found: re.Match[str]) -> str:
    before, login = found[1], found[2]
    user, colon, password = login.partition(":")
    if not before and not colon:
        return found[0]  # an address of mail, an image with a digest
    if password.startswith("${") or (not colon and user.startswith("${")):
        return found[0]
    return f"{before}{user}:{MASK}@" if colon else f"{before}{MASK}@"


def _pair(found: re.Match[str]) -> str:
    mark, name, value = found.groups()
    return found[0] if not value or "${" in value or parameter_shown(name) else f"{mark}{name}={MASK}"


def without_sent(answer: bytes, headers: Mapping[str, str], url: str = "") -> bytes:
    """A server's answer without the secrets that it was sent, in headers or the URL: asterisks, as many as there were bytes."""
    secrets = [form for name, value in headers.items() if value and not header_shown(name) for form in _forms(value)]
    for secret in (*secrets, *_in_url(url)):
        if len(secret) >= _SHORTEST and secret in answer:
            answer = answer.replace(secret, b"*" * len(secret))
    return answer


def _in_url(url: str) -> list[bytes]:
    """The login of a URL, as it is sent and by itself, and the values of its query that are not shown; as written and decoded."""
    if "@" not in url and "?" not in url:
        return []
    try:
        parts = urlsplit(url)
        login, password = parts.netloc.rpartition("@")[0], parts.password or ""
    except ValueError:
        return []
    texts = []
    if login:
        plain = unquote(login)
        texts += [base64.b64encode(plain.encode()).decode(), login, plain, password, unquote(password)]
    for pair in parts.query.split("&"):
        name, _, value = pair.partition("=")
        if value and not parameter_shown(unquote_plus(name)):
            texts += [value, unquote_plus(value)]
    return [text.encode("utf-8", "replace") for text in texts]


def _forms(value: str) -> list[bytes]:
    """A value of a header, its part after the scheme, and what that part means in Basic authentication; longest first."""
    scheme, _, rest = value.partition(" ")
    forms = [value, rest] if rest else [value]
    if scheme.lower() == "basic":
        try:
            login = base64.b64decode(rest, validate=True).decode()
            forms += [login, login.partition(":")[2]]
        except (binascii.Error, UnicodeDecodeError):
            pass
    return [form.encode("utf-8", "replace") for form in forms]

"""`uri_parser`: parses an absolute URI, a path or a query (`?a=b`) into scheme, user, host, port, path and query."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, unquote, unquote_plus, urlsplit

from kofagent.operators.access import Access
from kofagent.operators.entry import Entry
from kofagent.operators.errors import OperatorError
from kofagent.operators.parser import Parser, ParserConfig, text_of
from kofagent.operators.text import whole

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def _query(text: str, *, strict: bool) -> dict[str, Any]:
    out: dict[str, list[Any]] = {}
    for part in text.split("&"):
        if not part:
            continue
        if ";" in part or _BAD_ESCAPE.search(part):
            if strict:
                raise OperatorError("the query is not valid")
            continue
        key, _, value = part.partition("=")
        out.setdefault(unquote_plus(key), []).append(unquote_plus(value))
    return {"query": out} if out else {}


class UriParser(Parser[ParserConfig]):
    """Parses a URI."""

    def parse(self, value: Any, entry: Entry) -> Any:
        text = text_of(value)
        if text.startswith("?"):
            return _query(text[1:], strict=True)
        scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text)
        if not text or (scheme is None and not text.startswith("/")) or re.search(r"[\x00-\x20\x7f]", text):
            raise OperatorError("the value is not a URI")
        try:
            parts = urlsplit(text, allow_fragments=False)
            port = parts.netloc.rpartition("@")[2].rpartition("]")[2].partition(":")[2]
            host = parts.hostname or ""
        except ValueError:
            raise OperatorError("the value is not a URI") from None
        if _BAD_ESCAPE.search(parts.netloc + parts.path) or (port and not port.isdigit()):
            raise OperatorError("the value is not a URI")
        if scheme is not None and not text[scheme.end() :].startswith("/"):
            # mailto:someone is opaque: nothing but its scheme and query is a part.
            return {"scheme": parts.scheme} | _query(parts.query, strict=False)
        netloc = parts.netloc.rpartition("@")[2]
        if netloc and not netloc.startswith("["):
            host = netloc.partition(":")[0]
        found = {
            "scheme": parts.scheme,
            "user": unquote(parts.username or ""),
            "host": host,
            "port": port,
            "path": quote(whole(parts.path), safe="/%:@!$&'()*+,;=~-._"),
        }
        return {k: v for k, v in found.items() if v} | _query(parts.query, strict=False)

    def access(self) -> Access | None:
        return self.by_options()


OPERATOR = UriParser

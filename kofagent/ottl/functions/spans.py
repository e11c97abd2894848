"""Functions about spans."""

from __future__ import annotations

from typing import Any

from kofagent.ottl.env import Env
from kofagent.ottl.errors import EvaluationError
from kofagent.ottl.functions.core import converter, editor
from kofagent.transform.anyvalue import to_python, write


@converter("IsRootSpan()", contexts="span", env=True)
def is_root_span(env: Env) -> bool:
    """Whether the span has no parent."""
    return not env.span.parent_span_id.strip(b"\0")


_VERSIONS = tuple(f"1.{minor}.0" for minor in range(37, 44))


def _version(semconv_version: str | None = None, **_: Any) -> None:
    if semconv_version is not None and semconv_version not in _VERSIONS:
        raise EvaluationError(f"unknown version {semconv_version!r} of the semantic conventions; known: {', '.join(_VERSIONS)}")


@editor('set_semconv_span_name(semconv_version "s", original_span_name_attribute? "s")', contexts="span", env=True, check=_version)
def set_semconv_span_name(env: Env, version: str, original: str | None) -> None:
    """Names the span as the semantic conventions ask for, of few different values."""
    span = env.span
    attributes = {item.key: to_python(item.value) for item in span.attributes}
    name = _semconv_name(span, attributes)
    if name == span.name:
        return
    if original:
        write(next((i for i in span.attributes if i.key == original), None) or span.attributes.add(key=original).value, span.name)
    span.name = name


_SERVER, _CLIENT = 2, 3


def _semconv_name(span: Any, attributes: dict[str, Any]) -> str:
    """The name that the semantic conventions ask for: of low cardinality, from the attributes."""

    def text(*names: str) -> str:
        return next((v for n in names if isinstance(v := attributes.get(n), str) and v), "")

    method = text("http.request.method", "http.method")
    if method:
        method = "HTTP" if method == "_OTHER" else method
        target = text("http.route") if span.kind == _SERVER else text("url.template")
        return f"{method} {target}" if target else method
    if text("rpc.system", "rpc.system.name"):
        service, name = text("rpc.service"), text("rpc.method")
        if name:
            return f"{service}/{name}" if service and "/" not in name else name
        return text("rpc.system", "rpc.system.name")
    if text("messaging.system"):
        operation = text("messaging.operation.name", "messaging.operation")
        target = text("messaging.destination.template")
        if not target and attributes.get("messaging.destination.temporary") is True:
            target = "(temporary)"
        elif not target and attributes.get("messaging.destination.anonymous") is True:
            target = "(anonymous)"
        target = target or text("messaging.destination.name")
        return " ".join(part for part in (operation, target) if part) or text("messaging.system")
    if text("db.system.name", "db.system"):
        if summary := text("db.query.summary"):
            return summary
        operation = text("db.operation.name", "db.operation")
        target = text("db.collection.name", "db.sql.table") or text("db.stored_procedure.name") or text("db.namespace", "db.name")
        if not target and (address := text("server.address")):
            port = attributes.get("server.port")
            target = f"{address}:{port}" if isinstance(port, int) else address
        return " ".join(part for part in (operation, target) if part) or text("db.system.name", "db.system")
    return str(span.name)

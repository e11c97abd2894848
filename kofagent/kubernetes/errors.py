"""What the Kubernetes API answers when it does not do what it was asked, as exceptions. Messages hold no secrets."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from kofagent.wire.foreign_json import read_json

if TYPE_CHECKING:
    from kofagent.kubernetes.resources import Resource

_USER = re.compile(r'User "([^"]{1,300})"')


class ApiError(Exception):
    """An answer that is not 2xx, or a `Status` object in a watch stream. `status` is the HTTP code."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class Unreachable(ApiError):
    """No answer: cannot connect, TLS, timeout, connection broken, or an answer that is not what the API sends. `status` is 0."""

    def __init__(self, message: str) -> None:
        super().__init__(0, "Unreachable", message)


class Untrusted(Unreachable):
    """TLS: its certificate is not trusted, or it does not take ours."""


class NoCredentials(Unreachable):
    """Nothing could be sent: a token or certificate file cannot be read, or an exec plugin gave nothing."""


class TooLarge(ApiError):
    """The answer has more bytes than the caller takes."""

    def __init__(self, limit: int) -> None:
        super().__init__(0, "TooLarge", f"the API server's answer has more than {limit} bytes")


class Gone(ApiError):
    """410: the resource version or `continue` token is too old; list again."""


class NotFound(ApiError):
    """404: no such object, or a resource that this API server does not serve (a missing CRD)."""


class Unauthorized(ApiError):
    """401: the credentials are not accepted, also not after reading them again."""


class Forbidden(ApiError):
    """403: RBAC. The message names verb, resource, namespace, who asked, and the rule to add."""


_TYPES: dict[int, type[ApiError]] = {401: Unauthorized, 403: Forbidden, 404: NotFound, 410: Gone}


def from_status(
    status: int,
    body: bytes,
    verb: str,
    what: str,
    resource: Resource | None = None,
    namespace: str = "",
    retry_after: float | None = None,
    name: str = "",
) -> ApiError:
    """The exception of an answer. `verb` and `what` ("list", "pods"), and `name` of one object, say what was tried."""
    said: dict[str, Any] = {}
    try:
        loaded = read_json(body)
        said = loaded if isinstance(loaded, dict) else {}
    except ValueError:
        pass
    return from_object(said, verb, what, resource, namespace, retry_after, status, name)


def from_object(
    said: dict[str, Any],
    verb: str,
    what: str,
    resource: Resource | None = None,
    namespace: str = "",
    retry_after: float | None = None,
    status: int = 0,
    name: str = "",
) -> ApiError:
    """The exception of a `Status` object; `status` is the HTTP code where the object does not say one."""
    code = said.get("code") if isinstance(said.get("code"), int) else status
    code = code or status or 500
    reason = str(said.get("reason") or "")[:100]
    server = str(said.get("message") or "")[:500]
    details = said.get("details")
    if retry_after is None and isinstance(details, dict) and isinstance(details.get("retryAfterSeconds"), int):
        retry_after = float(details["retryAfterSeconds"])
    where = f" in namespace {namespace}" if namespace else ""
    if reason in ("Expired", "Gone"):
        code = 410
    if resource is not None and name:
        what = f"{resource.plural} {name!r}"
    if code == 403:
        message = _forbidden(server, verb, what, resource, namespace, name)
    elif code == 401:
        message = f"the API server does not accept the agent's credentials (401) to {verb} {what}{where}"
    elif code == 404 and resource is not None:
        missing = what if name else f"{resource.api_version} {resource.plural}"
        message = f"the API server has no {missing}{where} (404)"
    else:
        message = f"the API server answered {code} to {verb} {what}{where}" + (f": {server}" if server else "")
    return _TYPES.get(code, ApiError)(code, reason, message, retry_after)


def _forbidden(server: str, verb: str, what: str, resource: Resource | None, namespace: str, name: str) -> str:
    found = _USER.search(server)
    who = found.group(1) if found else "the agent"
    place = f"in namespace {namespace}" if namespace else "at cluster scope"
    if resource is None:
        return f"{who} may not {verb} {what} (403); add a rule for it to its role"
    verbs = ["list", "watch"] if verb in ("list", "watch") else [verb]
    names = {"resourceNames": [name]} if name and verb != "get" else {}
    rule = json.dumps({"apiGroups": [resource.group], "resources": [resource.plural], **names, "verbs": verbs})
    which = what if " " in what else resource.plural
    return f"{who} may not {verb} {which} {place} (403); add to its {'Role' if namespace else 'ClusterRole'} the rule {rule}"

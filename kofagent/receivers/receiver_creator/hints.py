"""`discovery`: receivers that pods ask for with annotations, and what they may ask for.

Whoever may create a pod can write annotations. What is asked for therefore cannot lead anywhere but to the pod itself: its own
files, its own address, none of the agent's credentials, files, environment or extensions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from kofagent.component import registry
from kofagent.component.observing import Endpoint
from kofagent.config.base import parse_duration, parse_size
from kofagent.config.errors import Path, show_path
from kofagent.config.source import parse
from kofagent.operators.expression import ExpressionError
from kofagent.receivers.receiver_creator.config import DiscoveryBlock
from kofagent.receivers.receiver_creator.templates import compile_templates, fill

PREFIX = "io.opentelemetry.discovery"
LOGS = "filelog"
SCRAPERS = frozenset({"httpcheck"})
"""What annotations may start without being allowed: it asks only the address that it is given, with what it is given, and bounds
the answer. Not `postgresql`, upstream's other one: its library holds messages of whatever length a server claims."""
_OF_FILES = re.compile(
    r"(operators|attributes|resource|multiline|encoding|header|exclude|exclude_older_than|start_at|force_flush_period|"
    r"max_log_size|max_log_size_behavior|on_truncate|compression|retry_on_failure|include_file_\w+|preserve_\w+_whitespaces)\Z"
)
"""Options of `filelog` that an annotation may set."""
_CREDENTIALS = re.compile(
    r"(auth|auth_type|authenticator|authorization|storage|tls|context|kubeconfig|netrc|proxy_url|credentials.*|.*_file|.*_files|.*_path|file|"
    r"passfile|filename|directory|node|command)\Z"
)
"""Keys that name what is the agent's."""
_ADDRESS = re.compile(r"(endpoint|uri|url|target|address|host|hostname|server|broker|peer|proxy|dsn|datasource)(e?s)?\Z")
"""Keys of addresses."""
_LOOKS = re.compile(r".*://|[\w.-]+:\d{1,5}\Z|\[[0-9a-fA-F:.]+\]|[0-9.]+\Z", re.DOTALL)
"""Texts that may be an address, whatever their key."""
LOG_DIRECTORY = "/var/log/pods"
"""Where the kubelet has the logs of pods."""
_LARGEST = 16 << 20
"""Longest entry that an annotation may ask for, bytes."""
_SHORTEST = 1.0
"""Shortest interval that an annotation may ask for, seconds."""


class Hint(NamedTuple):
    """What a pod asks for."""

    type: str
    options: dict[str, Any]
    signal: str


class Refusal(ValueError):
    """What a pod asks for is not allowed; the message says why."""


def hint(endpoint: Endpoint, options: DiscoveryBlock, storage: str | None) -> Hint | None:
    """What the pod asks for at this endpoint, None for nothing. Refusal. `storage` is given to receivers of files."""
    pod = endpoint.details.get("pod")
    if endpoint.type not in ("port", "pod.container") or not isinstance(pod, Mapping):
        return None
    annotations = {**options.default_annotations, **pod["annotations"]}
    ignored = {registry.resolve("receivers", each) or each for each in options.ignore_receivers}
    if endpoint.type == "pod.container":
        return None if LOGS in ignored else _logs(endpoint, pod, annotations, storage)
    scope = str(endpoint.details["port"])
    if _said(annotations, "metrics", scope, "enabled") != "true":
        return None
    scraper = _said(annotations, "metrics", scope, "scraper")
    type = registry.type_of(scraper)
    type = registry.resolve("receivers", type) or type
    if not scraper or type in ignored or scraper in options.ignore_receivers:
        return None
    allowed = SCRAPERS | {registry.resolve("receivers", each) or each for each in options.allow_receivers}
    if type not in allowed:
        known = ", ".join(sorted(SCRAPERS))
        raise Refusal(f"annotations may not start {type!r}, but {known} and what discovery.allow_receivers names")
    if registry.resolve("receivers", type) is None:
        raise Refusal(f"unknown receiver type {type!r}")
    given = _config(_said(annotations, "metrics", scope, "config"), endpoint)
    for path, value in _leaves(given):
        _check_scraper(path, value, endpoint)
    return Hint(type, given, "metrics")


def _logs(endpoint: Endpoint, pod: Mapping[str, Any], annotations: Mapping[str, str], storage: str | None) -> Hint | None:
    container = str(endpoint.details["container_name"])
    if _said(annotations, "logs", container, "enabled") != "true":
        return None
    given = _config(_said(annotations, "logs", container, "config"), endpoint)
    given.pop("include", None)  # as upstream: the files are the container's
    for path, value in _leaves(given):
        if not _OF_FILES.match(str(path[0])):
            raise Refusal(f"{show_path(path)} may not be set by an annotation")
        if isinstance(value, str) and re.search(r"\benv\s*\(", value):
            raise Refusal(f"{show_path(path)}: an annotation may not read the environment of the agent")
        if path[-1] == "max_log_size" and parse_size(value) > _LARGEST:
            raise Refusal(f"{show_path(path)} may be at most {_LARGEST >> 20} MiB")
    folder = f"{LOG_DIRECTORY}/{pod['namespace']}_{pod['name']}_{pod['uid']}/{container}"
    options: dict[str, Any] = {
        "include_file_path": True,
        "include_file_name": False,
        "operators": [{"id": "container-parser", "type": "container"}],
        **given,
        "include": [f"{folder}/*.log"],
    }
    if storage:
        options["storage"] = storage
    return Hint(LOGS, options, "logs")


def _said(annotations: Mapping[str, str], signal: str, scope: str, what: str) -> str:
    """An annotation for this port or container, else that of the pod."""
    found = annotations.get(f"{PREFIX}.{signal}.{scope}/{what}")
    return str(annotations.get(f"{PREFIX}.{signal}/{what}", "") if found is None else found)


def _config(text: str, endpoint: Endpoint) -> dict[str, Any]:
    """The options in an annotation, filled."""
    if not text.strip():
        return {}
    node, problems = parse(text, "annotation")
    if problems or (node.value is not None and not node.is_map):
        why = problems[0].message if problems else "it is not a map"
        raise Refusal(f"the options in the annotation cannot be read: {why}")
    try:
        filled: dict[str, Any] = fill(compile_templates(node.plain() or {}), endpoint.env())
    except (ExpressionError, ValueError) as error:
        raise Refusal(f"the options in the annotation cannot be filled: {error}") from None
    return filled


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _leaves(each, (*path, str(key)))
        if not value and path:
            yield path, value
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _leaves(each, (*path, index))
        if not value and path:
            yield path, value
    else:
        yield path, value


def _check_scraper(path: Path, value: Any, endpoint: Endpoint) -> None:
    keys = [str(part) for part in path if isinstance(part, str)]
    for key in keys:
        if _CREDENTIALS.match(key):
            raise Refusal(f"{show_path(path)} may not be set by an annotation")
    if keys[-1].endswith("interval") and parse_duration(value) < _SHORTEST:
        raise Refusal(f"{show_path(path)} may be {_SHORTEST:g} s at the least")
    if not isinstance(value, str):
        return
    # whatever is, or looks like, an address has to be the pod's
    if (_ADDRESS.match(keys[-1]) or _LOOKS.match(value)) and _netloc(value) != endpoint.target:
        raise Refusal(f"{show_path(path)} must be the address of the pod, {endpoint.target}")


def _netloc(text: str) -> str:
    """Host and port of a URL or of host:port, without anything else that could be one."""
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
    except ValueError:
        return ""
    return parts.netloc if re.fullmatch(r"[^\s@,\\]*", parts.netloc) else ""

"""The operators of KOF 0.3.0's `filelog/kube`."""

from __future__ import annotations

from typing import Any

PATH_REGEX = (
    r"^.*\/(?P<namespace>[^_]+)_(?P<pod_name>[^_]+)_(?P<uid>[a-f0-9\-]{36})\/(?P<container_name>[^\._]+)\/"
    r"(?P<restart_count>\d+)\.log$"
)
LEVEL_REGEX = (
    r"(?i)(?P<log_level>(panic|fatal|crit|alert|emerg|err(?:or)?|warn(?:ing)?|info|debug|notice|trace"
    r"|[EFDWI]\d{4}))"
)
KOF_OPERATORS: list[dict[str, Any]] = [
    {"id": "container-parser", "max_log_size": 102400, "type": "container"},
    {
        "type": "regex_parser",
        "id": "extract_metadata_from_filepath",
        "regex": PATH_REGEX,
        "parse_from": 'attributes["log.file.path"]',
        "on_error": "drop_quiet",
    },
    {"type": "move", "from": "attributes.container_name", "to": 'resource["k8s.container.name"]'},
    {"type": "move", "from": "attributes.namespace", "to": 'resource["k8s.namespace.name"]'},
    {"type": "move", "from": "attributes.pod_name", "to": 'resource["k8s.pod.name"]'},
    {"type": "move", "from": "attributes.restart_count", "to": 'resource["k8s.container.restart_count"]'},
    {"type": "move", "from": "attributes.uid", "to": 'resource["k8s.pod.uid"]'},
    {"type": "regex_parser", "id": "extract_log_level", "regex": LEVEL_REGEX, "parse_from": "body", "on_error": "send_quiet"},
    {
        "type": "regex_parser",
        "id": "extract_short_letter",
        "if": '("log_level" in attributes)',
        "parse_from": 'attributes["log_level"]',
        "regex": r"(?i)(?P<log_level>[EFDWI])\d{4}",
        "on_error": "send_quiet",
    },
    {"type": "add", "if": '!("log_level" in attributes)', "field": "attributes.log_level", "value": "info"},
    {
        "type": "severity_parser",
        "preset": "none",
        "overwrite_text": True,
        "parse_from": "attributes.log_level",
        "mapping": {
            "fatal": ["fatal", "crit", "alert", "emerg", "panic", "f"],
            "error": ["error", "err", "failed", "e"],
            "warn": ["warn", "warning", "w"],
            "info": ["info", "notice", "trace", "i"],
            "debug": ["debug", "d"],
        },
    },
    {"type": "remove", "field": "attributes.log_level", "cache": {"size": 128}},
]

"""Labels and annotations as attributes (`extract.labels`, `extract.annotations`, `otel_annotations`), compiled."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kofagent.config.re2 import compile_re2
from kofagent.processors.k8sattributes.config import ExtractRule

_REFERENCE = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})", re.ASCII)
_PLURAL = {"pod", "namespace", "node"}
"""Kinds whose default attribute is `k8s.<kind>.labels.<key>`; the others have `k8s.<kind>.label.<key>`, as upstream."""

OTEL_ANNOTATIONS = ExtractRule.model_validate({"tag_name": "$1", "key_regex": r"resource\.opentelemetry\.io/(.+)"})
"""What `otel_annotations: true` stands for."""

Extract = Callable[[Mapping[str, Any], dict[str, str]], None]
"""Takes the labels or annotations of an object, adds to the attributes."""


def compile_rules(rules: Sequence[ExtractRule], what: str, kind: str) -> list[Extract]:
    """The rules for objects of `kind`; `what` is `label` or `annotation`."""
    prefix = f"k8s.{kind}.{what}{'s' if kind in _PLURAL else ''}."
    return [_by_regex(rule, prefix) if rule.key_regex else _by_key(rule, prefix) for rule in rules if rule.from_ == kind]


def _by_key(rule: ExtractRule, prefix: str) -> Extract:
    key, name = rule.key, rule.tag_name or prefix + rule.key

    def extract(found: Mapping[str, Any], attributes: dict[str, str]) -> None:
        value = found.get(key)
        if value is not None:
            attributes[name] = str(value)

    return extract


def _by_regex(rule: ExtractRule, prefix: str) -> Extract:
    pattern = compile_re2(f"^(?:{rule.key_regex})$")
    template = rule.tag_name if pattern.groups else ""  # upstream takes tag_name only where the expression has groups

    def extract(found: Mapping[str, Any], attributes: dict[str, str]) -> None:
        for key, value in found.items():
            match = pattern.match(key) if value != "" else None
            if match is not None:
                attributes[expand(template, match) if template else prefix + key] = str(value)

    return extract


def expand(template: str, match: Any) -> str:
    """Go's Regexp.Expand: `$1`, `$name`, `${name}`, `$$`; a group that is not there is empty."""

    def replace(reference: re.Match[str]) -> str:
        name = reference[1] or reference[2]
        if name is None:
            return "$"
        try:
            return match[int(name)] or "" if name.isdecimal() else match[name] or ""
        except (IndexError, KeyError, AttributeError):
            return ""

    return _REFERENCE.sub(replace, template)

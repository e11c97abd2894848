"""Relabelling rule by rule, as the documentation reads: the twin of `kofagent.prometheus.relabel.compile_rules`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from kofagent.prometheus.relabel import RelabelConfig, compile_regex


def expand(template: str, match: object) -> str:
    """Go's `regexp.Expand`, character by character."""
    out, at = "", 0
    while at < len(template):
        if template[at] != "$":
            out, at = out + template[at], at + 1
            continue
        rest = template[at + 1 :]
        if rest.startswith("$"):
            out, at = out + "$", at + 2
            continue
        word = re.match(r"[A-Za-z0-9_]+", rest) or re.match(r"\{([A-Za-z0-9_]+)\}", rest)
        if word is None:
            out, at = out + "$", at + 1
            continue
        name = word.group(0).strip("{}")
        at += 1 + len(word.group(0))
        try:
            key: int | str = int(name) if name.isdigit() and (name == "0" or name[0] != "0") else name
            out += match.group(key) or ""  # type: ignore[attr-defined]
        except (IndexError, KeyError):
            pass
    return out


def relabel(rules: Sequence[RelabelConfig], labels: dict[str, str]) -> bool:
    """Changes `labels`; False where a rule drops them."""
    for rule in rules:
        value = rule.separator.join(labels.get(name, "") for name in rule.source_labels)
        match = compile_regex(rule.regex).fullmatch
        if rule.action == "keep" and match(value) is None:
            return False
        if rule.action == "drop" and match(value) is not None:
            return False
        if rule.action == "keepequal" and labels.get(rule.target_label, "") != value:
            return False
        if rule.action == "dropequal" and labels.get(rule.target_label, "") == value:
            return False
        if rule.action == "replace":
            found = match(value)
            if found is not None:
                target, new = expand(rule.target_label, found), expand(rule.replacement, found)
                if target:
                    put(labels, target, new)
        if rule.action == "lowercase":
            put(labels, rule.target_label, value.lower())
        if rule.action == "uppercase":
            put(labels, rule.target_label, value.upper())
        if rule.action == "hashmod":
            digest = hashlib.md5(value.encode()).digest()[8:]
            put(labels, rule.target_label, str(int.from_bytes(digest, "big") % rule.modulus))
        if rule.action == "labelmap":
            for name, content in sorted(labels.items()):
                found = match(name)
                if found is not None and content:
                    new = expand(rule.replacement, found)
                    if new:
                        labels[new] = content
        if rule.action in ("labeldrop", "labelkeep"):
            for name in list(labels):
                if (match(name) is not None) is (rule.action == "labeldrop"):
                    del labels[name]
    return True


def put(labels: dict[str, str], name: str, value: str) -> None:
    if value:
        labels[name] = value
    else:
        labels.pop(name, None)

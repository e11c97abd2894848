"""Relabelling: `relabel_configs` and `metric_relabel_configs` as one compiled function (prometheus.io, relabel_config).

`compile_rules` turns a list of rules into `rules(labels) -> bool`: it changes the dict in place and returns False if a
rule drops it. A missing label and an empty label are equivalent. Errors in a rule are found when the
options are read, never while relabelling.
"""

from __future__ import annotations

import hashlib
import itertools
import linecache
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from kofagent.config.base import AS_WRITTEN, ComponentConfig
from kofagent.config.re2 import compile_re2

Labels = dict[str, str]
Rules = Callable[[Labels], bool]
Action = Literal[
    "replace", "lowercase", "uppercase", "hashmod", "keep", "drop", "keepequal", "dropequal", "labelmap", "labeldrop", "labelkeep"
]
_NEEDS_TARGET = ("replace", "hashmod", "lowercase", "uppercase", "keepequal", "dropequal")
_DEFAULT_REGEX = "(.*)"
_LEGACY_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
_REFERENCE = re.compile(r"\$(?:\$|([A-Za-z0-9_]+)|\{([A-Za-z0-9_]+)\})")
_serial = itertools.count()


def scalar_text(value: Any) -> Any:
    """A YAML scalar as Go's YAML reader assigns it to a string field: `8080` is "8080", `true` is "true", null is ""."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return "" if value is None else value


Text = Annotated[str, AS_WRITTEN, BeforeValidator(scalar_text)]


def single_dollars(text: str) -> str:
    """`$$1` and `$${1}` as `$1` and `${1}`: both spellings are in use, depending on who expands `$$` before us."""
    return re.sub(r"\$\$(?=[0-9{])", "$", text)


def compile_regex(pattern: str) -> Any:
    """The pattern as RE2, to be used with `fullmatch`; `.` matches a newline too. ValueError says what is wrong with it."""
    return compile_re2(pattern, "(?s)")


def valid_label_name(name: str, scheme: str = "utf8") -> bool:
    """Whether a label may have this name under `metric_name_validation_scheme`."""
    return bool(name) if scheme == "utf8" else bool(_LEGACY_NAME.match(name))


def template_parts(template: str) -> list[str | int | tuple[str]]:
    """A replacement as Go's `regexp.Expand` reads it: text, group numbers and group names (in a tuple) in order."""
    parts: list[str | int | tuple[str]] = []
    at = 0
    for match in _REFERENCE.finditer(template):
        parts.append(template[at : match.start()])
        at = match.end()
        name = match[1] or match[2]
        if name is None:
            parts.append("$")
        elif name.isdigit() and not (len(name) > 1 and name[0] == "0"):
            parts.append(int(name))
        else:
            parts.append((name,))
    parts.append(template[at:])
    return [part for part in parts if part != ""]


class RelabelConfig(ComponentConfig):
    """One rule."""

    source_labels: list[Text] = Field([], description="Labels whose values are joined and matched.")
    separator: Text = Field(";", description="Separator between the values.")
    target_label: Text = Field("", description="Label that is written; $1 works for replace.")
    regex: Text = Field(_DEFAULT_REGEX, description="RE2 pattern, anchored at both ends.")
    modulus: int = Field(0, ge=0, description="Divisor of the hash (hashmod).")
    replacement: Text = Field("$1", description="What is written where the regex matches; $1, ${1}, ${name}, $$1 work.")
    action: Action = Field("replace", description="What the rule does.")

    @model_validator(mode="before")
    @classmethod
    def _action_in_any_case(cls, data: Any) -> Any:
        if isinstance(data, dict):
            data = {k: v for k, v in data.items() if v is not None or k == "regex"}
            if isinstance(data.get("action"), str):
                data["action"] = data["action"].lower()
            if isinstance(data.get("source_labels"), str):
                raise ValueError("source_labels must be a list; write [name]")
        return data

    @model_validator(mode="after")
    def _complete(self) -> RelabelConfig:
        self.replacement = single_dollars(self.replacement)
        self.target_label = single_dollars(self.target_label)
        compile_regex(self.regex)
        if self.action in _NEEDS_TARGET and not self.target_label:
            raise ValueError(f"action {self.action} writes a label; name it with target_label")
        if self.action == "hashmod" and not self.modulus:
            raise ValueError("action hashmod needs a modulus greater than 0")
        plain = self.replacement == "$1"
        if self.action in ("lowercase", "uppercase", "keepequal", "dropequal") and not plain:
            raise ValueError(f"action {self.action} has no replacement; remove it")
        if self.action in ("keepequal", "dropequal") and (self.regex != _DEFAULT_REGEX or self.modulus or self.separator != ";"):
            raise ValueError(f"action {self.action} takes source_labels and target_label only")
        if self.action in ("labeldrop", "labelkeep") and (
            self.source_labels or self.target_label or self.modulus or self.separator != ";" or not plain
        ):
            raise ValueError(f"action {self.action} takes a regex only")
        return self

    def check_names(self, scheme: str) -> None:
        """ValueError if a label name that this rule writes is not allowed under `metric_name_validation_scheme`."""
        name = self.replacement if self.action == "labelmap" else self.target_label
        if scheme == "utf8" or not name or "$" in name:
            return
        if not valid_label_name(name, scheme):
            raise ValueError(f"{name!r} is not a label name under metric_name_validation_scheme legacy")


def compile_rules(rules: Sequence[RelabelConfig], name: str, scheme: str = "utf8") -> Rules:
    """One function of all rules. `name` appears in tracebacks; its text is in `linecache` under `<relabel name N>`.

    No user input is formatted into the text: labels, templates and patterns are bound as globals.
    """
    bound: dict[str, Any] = {"_valid": lambda n: valid_label_name(n, scheme), "_md5": hashlib.md5, "_expand": _expand}
    lines = ["def rules(labels):", "    get = labels.get"]
    for i, rule in enumerate(rules):
        lines += _RULE[rule.action](rule, i, bound)
    lines.append("    return True")
    text = "\n".join(lines) + "\n"
    filename = f"<relabel {name} {next(_serial)}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
    # The text consists of the fixed phrases below; all user input is bound.
    exec(compile(text, filename, "exec"), bound)  # noqa: S102
    compiled: Rules = bound["rules"]
    return compiled


def _expand(parts: Sequence[str | int | tuple[str]], match: Any) -> str:
    out = []
    for part in parts:
        if isinstance(part, str):
            out.append(part)
        else:
            out.append(_group(match, part if isinstance(part, int) else part[0]))
    return "".join(out)


def _group(match: Any, key: int | str) -> str:
    try:
        return match.group(key) or ""
    except (IndexError, KeyError):
        return ""


def _value(rule: RelabelConfig, i: int, bound: dict[str, Any]) -> str:
    names = []
    for j, label in enumerate(rule.source_labels):
        bound[f"s{i}_{j}"] = label
        names.append(f'get(s{i}_{j}, "")')
    if not names:
        return '""'
    if len(names) == 1:
        return names[0]
    bound[f"sep{i}"] = rule.separator.join
    return f"sep{i}(({', '.join(names)}))"


def _matcher(rule: RelabelConfig, i: int, bound: dict[str, Any]) -> None:
    alternatives = _literals(rule.regex)
    bound[f"m{i}"] = alternatives.__contains__ if alternatives is not None else compile_regex(rule.regex).fullmatch


def _literals(pattern: str) -> frozenset[str] | None:
    """The strings of a pattern that is only `a|b|c`; set membership is then the same as matching."""
    if re.fullmatch(r"[A-Za-z0-9_:;/ -]*(\|[A-Za-z0-9_:;/ -]*)*", pattern):
        return frozenset(pattern.split("|"))
    return None


def _keep(rule: RelabelConfig, i: int, bound: dict[str, Any]) -> list[str]:
    _matcher(rule, i, bound)
    negation = "not " if rule.action == "keep" else ""
    return [f"    if {negation}m{i}({_value(rule, i, bound)}):", "        return False"]


def _equal(rule: RelabelConfig, i: int, bound: dict[str, Any]) -> list[str]:
    bound[f"t{i}"] = rule.target_label
    operator = "!=" if rule.action == "keepequal" else "=="
    return [f'    if get(t{i}, "") {operator} {_value(rule, i, bound)}:', "        return False"]


def _write(i: int, value: str, indent: str = "    ") -> list[str]:
    return [
        f"{indent}v = {value}",
        f"{indent}if v:",
        f"{indent}    labels[t{i}] = v",
        f"{indent}else:",
        f"{indent}    labels.pop(t{i}, None)",
    ]


def _replace(rule: RelabelConfig, i: int, bound: dict[str, Any]) -> list[str]:
    target, replacement = template_parts(rule.target_label), template_parts(rule.replacement)
    fixed = "$" not in rule.target_label
    bound[f"t{i}"] = rule.target_label
    if fixed and rule.regex == _DEFAULT_REGEX and replacement == [1]:
        return _write(i, _value(rule, i, bound))
    if fixed and rule.regex == _DEFAULT_REGEX and all(isinstance(p, str) for p in replacement):
        bound[f"r{i}"] = "".join(str(p) for p in replacement)
        return _write(i, f"r{i}")
    bound[f"m{i}"], bound[f"r{i}"] = compile_regex(rule.regex).fullmatch, replacement
    lines = [f"    m = m{i}({_value(rule, i, bound)})", "    if m is not None:"]
    if fixed:
        return lines + _write(i, f"_expand(r{i}, m)", "        ")
    bound[f"tt{i}"] = target
    return [
        *lines,
        f"        t = _expand(tt{i}, m)",
        "        if _valid(t):",
        f"            v = _expand(r{i}, m)",
        "            if v:",
        "                labels[t] = v",
        "            else:",
        "                labels.pop(t, None)",
    ]


def _case(rule: RelabelConfig, i: int, bound: dict[str, Any]) -> list[str]:
    bound[f"t{i}"] = rule.target_label
    return _write(i, f"{_value(rule, i, bound)}.{'lower' if rule.action == 'lowercase' else 'upper'}()")


def _hashmod(rule: RelabelConfig, i: int, bound: dict[str, Any]) -> list[str]:
    bound[f"t{i}"], bound[f"mod{i}"] = rule.target_label, rule.modulus
    value = _value(rule, i, bound)
    return [f"    labels[t{i}] = str(int.from_bytes(_md5(({value}).encode()).digest()[8:], 'big') % mod{i})"]


def _labelmap(rule: RelabelConfig, i: int, bound: dict[str, Any]) -> list[str]:
    bound[f"m{i}"], bound[f"r{i}"] = compile_regex(rule.regex).fullmatch, template_parts(rule.replacement)
    return [
        "    for name, value in sorted(labels.items()):",
        f"        m = m{i}(name)",
        "        if m is not None and value:",
        f"            labels[_expand(r{i}, m)] = value",
        "    labels.pop('', None)",
    ]


def _labels(rule: RelabelConfig, i: int, bound: dict[str, Any]) -> list[str]:
    _matcher(rule, i, bound)
    condition = f"m{i}(name)" if rule.action == "labeldrop" else f"not m{i}(name)"
    return [f"    for name in [name for name in labels if {condition}]:", "        del labels[name]"]


_RULE: dict[str, Callable[[RelabelConfig, int, dict[str, Any]], list[str]]] = {
    "replace": _replace,
    "lowercase": _case,
    "uppercase": _case,
    "hashmod": _hashmod,
    "keep": _keep,
    "drop": _keep,
    "keepequal": _equal,
    "dropequal": _equal,
    "labelmap": _labelmap,
    "labeldrop": _labels,
    "labelkeep": _labels,
}

"""References in a configuration: `${env:X}`, `${env:X:-default}`, `${X}`, `${file:PATH}`, `${yaml:...}`, `${secret:NAME/KEY}`.

As the collector does: the innermost reference is resolved first, a reference that is a whole value is parsed as YAML, one inside
a string is a string, `$$` is a `$`, an unset variable is empty (with a warning). A newline at the end of a file is removed.
Differences: `${secret:...}`, whose value is used unchanged, and `${1}`, which is never a variable because relabel rules use it.
No message shows a value.

A Secret is looked up as the file `$KOFAGENT_SECRETS_DIR/NAME/KEY` (as Kubernetes mounts it, default directory
`/etc/kofagent/secrets`) and then as the environment variable `NAME_KEY` in upper case, other characters as `_`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kofagent.config.errors import Path, Problem
from kofagent.config.source import parse, read_text
from kofagent.config.tree import Node

SECRETS_DIR = "/etc/kofagent/secrets"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)\Z", re.DOTALL)
_VARIABLE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
_SCHEMES = ("env", "file", "yaml", "secret")
_MAX_ROUNDS = 1000
_MAX_DEPTH = 30


@dataclass(frozen=True)
class MissingSecret:
    """A Secret that was not found; `looked` names the places."""

    name: str
    key: str
    looked: tuple[str, ...]
    reason: str = ""


def secret_variable(name: str, key: str) -> str:
    """The environment variable of a Secret's key: `STORAGE_VMUSER_CREDENTIALS_USERNAME`."""
    return re.sub(r"[^A-Za-z0-9]", "_", f"{name}_{key}").upper()


def find_secret(name: str, key: str, environ: Mapping[str, str]) -> str | MissingSecret:
    """The value of a Secret's key, without the newline an editor leaves at its end."""
    directory = environ.get("KOFAGENT_SECRETS_DIR") or SECRETS_DIR
    file = os.path.join(directory, name, key)
    variable = secret_variable(name, key)
    reason = ""
    if _is_name(name) and _is_name(key):
        try:
            with open(file, encoding="utf-8-sig", newline="") as handle:
                return handle.read(1024 * 1024).removesuffix("\n").removesuffix("\r")
        except FileNotFoundError:
            pass
        except (OSError, UnicodeDecodeError) as error:
            reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "not UTF-8 text"
    if variable in environ:
        return environ[variable]
    return MissingSecret(name, key, (file, f"the environment variable {variable}"), reason)


def _is_name(part: str) -> bool:
    return bool(part) and "/" not in part and "\0" not in part and part not in (".", "..")


@dataclass
class Expansion:
    """What `expand` did: the tree without references, and the errors and warnings it found."""

    node: Node
    problems: list[Problem] = field(default_factory=list)

    @property
    def errors(self) -> list[Problem]:
        """What keeps the configuration from being used."""
        return [p for p in self.problems if not p.warning]

    @property
    def warnings(self) -> list[Problem]:
        """What is odd, but works."""
        return [p for p in self.problems if p.warning]


def expand(tree: Node, environ: Mapping[str, str], *, need_secrets: bool = True) -> Expansion:
    """A copy of `tree` with all references resolved. Resolved values are marked `hidden`.

    Without `need_secrets` a missing Secret is a warning and its value `missing`: for checking a configuration elsewhere.
    """
    expander = _Expander(environ, need_secrets)
    node = expander.tree(tree, ())
    return Expansion(node, expander.problems)


class _Failed(Exception):
    """The value has an error that is already recorded."""


class _Expander:
    def __init__(self, environ: Mapping[str, str], need_secrets: bool) -> None:
        self.environ = environ
        self.need_secrets = need_secrets
        self.problems: list[Problem] = []
        self.files: set[str] = set()
        self.depth = 0

    def tree(self, node: Node, path: Path) -> Node:
        if node.is_map:
            return Node({k: self.tree(v, (*path, k)) for k, v in node.value.items()}, node.origin, replaced=node.replaced)
        if node.is_list:
            return Node([self.tree(v, (*path, i)) for i, v in enumerate(node.value)], node.origin, replaced=node.replaced)
        if not isinstance(node.value, str) or "$" not in node.value:
            return node.copy()
        try:
            return self.text(node, path)
        except _Failed:
            return Node("", node.origin, hidden=True)

    def text(self, node: Node, path: Path) -> Node:
        self.depth += 1
        try:
            if self.depth > _MAX_DEPTH:
                self.fail(node, path, "circular reference", "check the variables that it names")
                raise _Failed
            return self.text_of(node, path)
        finally:
            self.depth -= 1

    def text_of(self, node: Node, path: Path) -> Node:
        text: str = node.value
        exact: list[str] = []
        hidden = node.hidden
        for _ in range(_MAX_ROUNDS):
            found = find_reference(text)
            if found is None:
                return Node(_finish(text, exact), node.origin, hidden=hidden)
            start, end = found
            whole = start == 0 and end == len(text)
            value, is_exact, from_file = self.resolve(text[start + 2 : end - 1], node, path)
            if is_exact:
                exact.append(value or "")
                text = f"{text[:start]}\0{len(exact) - 1}\0{text[end:]}"
                hidden = True
                continue
            hidden = hidden or bool(value)  # what is unset or empty has nothing to hide
            if whole:
                return self.whole(value, node, path, from_file)
            text = text[:start] + (value or "") + text[end:]
        self.fail(node, path, "circular reference", "check the variables that it names")
        raise _Failed

    def whole(self, value: str | None, node: Node, path: Path, from_file: str | None) -> Node:
        """A value that is one reference and nothing else: a string unchanged, or parsed as YAML.

        A value that is not a string also keeps its text, for an option that is a string (a password `0123` or `a: b`); that of an
        unset variable is empty.
        """
        if value is None:
            return Node(None, node.origin, text="", hidden=True)
        parsed, problems = parse(value, from_file or node.origin.file)
        if problems and from_file is not None and from_file.endswith((".yaml", ".yml")):
            self.problems += problems
            raise _Failed
        nothing = parsed.value is None and value.strip() not in ("~", "null", "Null", "NULL")
        if problems or nothing or isinstance(parsed.value, str):
            text = Node(value, node.origin, hidden=True)
            return self.text(text, path) if find_reference(text.value) else replace(text, value=_finish(text.value, []))
        keep_lines = from_file is not None and (parsed.is_map or parsed.is_list)
        for _, each in parsed.walk():
            each.origin = each.origin if keep_lines else node.origin
            each.hidden = True
        if parsed.is_map or parsed.is_list:
            parsed = self.nested(parsed, path, from_file)
        return replace(parsed, text=value, hidden=True)

    def nested(self, node: Node, path: Path, from_file: str | None) -> Node:
        if from_file is None:
            return self.tree(node, path)
        if from_file in self.files:
            self.fail(node, path, "the file includes itself", "remove one of the references")
            raise _Failed
        self.files.add(from_file)
        try:
            return self.tree(node, path)
        finally:
            self.files.discard(from_file)

    def resolve(self, reference: str, node: Node, path: Path) -> tuple[str | None, bool, str | None]:
        """Text of a reference (None: unset), whether it is to be taken as it is, and the file it was read from."""
        if "\0" in reference:
            self.fail(node, path, "a Secret cannot be part of another reference", "use it on its own")
            raise _Failed
        match = _SCHEME.match(reference)
        scheme, rest = (match[1], match[2]) if match else ("env", reference)
        if scheme == "env":
            return self.variable(rest, node, path), False, None
        if scheme == "yaml":
            return rest, False, None
        if scheme == "file":
            text = read_text(rest, self.problems, node.origin, path)
            if text is None:
                raise _Failed
            return text.removesuffix("\n").removesuffix("\r"), False, rest
        if scheme == "secret":
            name, _, key = rest.partition("/")
            if not _is_name(name) or not _is_name(key):
                self.fail(node, path, "a Secret reference needs a name and a key", "write ${secret:NAME/KEY}")
                raise _Failed
            found = find_secret(name, key, self.environ)
            if isinstance(found, MissingSecret):
                self.problems.append(replace(missing_secret(found, node, path), warning=not self.need_secrets))
                if not self.need_secrets:
                    return "missing", True, None
                raise _Failed
            return found, True, None
        if _VARIABLE.match(scheme) and rest.startswith("-"):
            self.fail(node, path, f"${{{scheme}:-...}} needs a scheme for a default", f"write ${{env:{scheme}:-default}}")
        else:
            hint = f"use one of {', '.join(_SCHEMES)}; a '$' is written '$$'"
            self.fail(node, path, f"unknown kind of reference {scheme!r}", hint)
        raise _Failed

    def variable(self, rest: str, node: Node, path: Path) -> str | None:
        name, has_default, default = rest.partition(":-")
        if not _VARIABLE.match(name):
            self.fail(
                node,
                path,
                f"{name!r} is not the name of an environment variable",
                "use letters, digits and '_'; a '$' is written '$$'",
            )
            raise _Failed
        value = self.environ.get(name)
        if value is not None:
            return value
        if has_default:
            return default
        message = f"the environment variable {name} is not set and treated as empty"
        self.problems.append(Problem(path, message, f"set it, or write ${{env:{name}:-default}}", node.origin.place, warning=True))
        return None

    def fail(self, node: Node, path: Path, message: str, hint: str) -> None:
        self.problems.append(Problem(path, message, hint, node.origin.place))


def missing_secret(missing: MissingSecret, node: Node, path: Path) -> Problem:
    """The error of a missing Secret at the place that needs it."""
    why = f" ({missing.reason})" if missing.reason else ""
    places = " and ".join(missing.looked)
    message = f"the Secret {missing.name!r} with key {missing.key!r} was not found; looked for {places}{why}"
    hint = "mount the Secret there (KOFAGENT_SECRETS_DIR moves the directory), or set the variable"
    return Problem(path, message, hint, node.origin.place)


def find_reference(text: str) -> tuple[int, int] | None:
    """Start and end of the first innermost `${...}` that is a reference: not escaped by an odd `$` before."""
    close = text.find("}")
    while close >= 0:
        start = text.rfind("${", 0, close)
        # Everything before an earlier "}" was looked at already.
        if start >= 0 and text.find("}", start) == close and close > start + 2:
            dollars = 0
            while start - dollars > 0 and text[start - dollars - 1] == "$":
                dollars += 1
            if dollars % 2 == 0:
                return start, close + 1
        close = text.find("}", close + 1)
    return None


def _finish(text: str, exact: list[str]) -> str:
    text = text.replace("$$", "$")
    for index, value in enumerate(exact):
        text = text.replace(f"\0{index}\0", value)
    return text

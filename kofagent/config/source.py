"""YAML text to a tree of nodes, keeping the line of every key and value; mistakes of the text as `Problem`s.

Scalars are read as the collector's YAML library (YAML 1.2, Go's number forms) does; `yaml11` adds the words `yes`, `no`, `on`,
`off`, `y` and `n` as Helm reads them in values files. Duplicate keys, several documents and texts that grow without bound through
aliases are errors.
"""

from __future__ import annotations

import os
import re
from typing import Any

import yaml

from kofagent.config.errors import ConfigErrors, Path, Place, Problem
from kofagent.config.tree import Node, Origin

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?[0-9][0-9_]*\Z")
_BASED = re.compile(r"([-+]?)(0[xX][0-9a-fA-F_]+|0o[0-7_]+|0b[01_]+)\Z")
_OCTAL = re.compile(r"([-+]?)0([0-7_]+)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?\Z")
_INF = re.compile(r"([-+]?)\.(inf|Inf|INF)\Z")
_WORDS: dict[str, Any] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
    ".nan": float("nan"),
    ".NaN": float("nan"),
    ".NAN": float("nan"),
}
_WORDS11 = {
    "y": True,
    "Y": True,
    "yes": True,
    "Yes": True,
    "YES": True,
    "on": True,
    "On": True,
    "ON": True,
    "n": False,
    "N": False,
    "no": False,
    "No": False,
    "NO": False,
    "off": False,
    "Off": False,
    "OFF": False,
}
_QUOTED = ("'", '"', "|", ">")  # the C loader gives plain scalars an empty style, the Python one None
MAX_BYTES = 16 * 1024 * 1024
MAX_NODES = 500_000
MAX_DEPTH = 100
_OPENING = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_CLOSING = (yaml.MappingEndEvent, yaml.SequenceEndEvent)
_OPENED = {
    "while parsing a flow mapping": "the '{'",
    "while parsing a flow sequence": "the '['",
    "while scanning a quoted scalar": "the quoted string",
}
"""What libyaml was reading when it could not continue, for what may have begun lines above."""


_LONGEST_NUMBER = 400
"""Characters of a number; the largest float has 309 digits."""


def scalar(text: str, *, yaml11: bool = False) -> Any:
    """The value of a plain (unquoted) YAML scalar: None, bool, int, float or the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    if yaml11 and text in _WORDS11:
        return _WORDS11[text]
    if not text or text[0] not in "+-.0123456789":
        return text
    if match := _OCTAL.match(text):
        return int(match[1] + match[2].replace("_", "") or "0", 8) if match[2].strip("_") else text
    if len(text) > _LONGEST_NUMBER:
        return text  # no option has such a number, and Python refuses to read more than some thousand digits
    if _INT.match(text):
        return int(text.replace("_", ""))
    if match := _BASED.match(text):
        return int(match[1] + match[2].replace("_", ""), 0)
    if _FLOAT.match(text):
        return float(text.replace("_", ""))
    if match := _INF.match(text):
        return float(match[1] + "inf")
    return text


def parse(text: str, file: str, *, layer: str = "user", yaml11: bool = False, first_line: int = 1) -> tuple[Node, list[Problem]]:
    """The tree of one YAML document and what is wrong with it; an empty document is null.

    Text that is not YAML at all gives one error and a null tree.
    """
    try:
        # The C composer recurses without a guard, so the depth is looked at first.
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, _OPENING) - isinstance(event, _CLOSING)
            if depth > MAX_DEPTH:
                line = (event.start_mark.line if event.start_mark else 0) + first_line
                return Node(None, Origin(file, line, layer)), [
                    Problem((), f"is nested more than {MAX_DEPTH} levels deep", "flatten it", Place(file, line))
                ]
        loader = _Loader(text)
        try:
            composed = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark, opened = error.problem_mark or error.context_mark, _OPENED.get(error.context or "")
        line = (mark.line if mark else 0) + first_line
        problem = (error.problem or error.context or "cannot be read").removeprefix("but ")
        if error.context == "expected a single document in the stream":
            problem, hint = "contains more than one document", "split it at '---' into several files and name each of them"
        elif opened and error.context_mark and error.context_mark.line + first_line < line:
            noticed, line = line, error.context_mark.line + first_line
            problem = f"not valid YAML: {opened} that begins here does not end; noticed on line {noticed}: {problem}"
            hint = "close it, or look for what is missing between the two lines"
        else:
            hint = "check the indentation, the colons and the quotes near this line"
            problem = f"not valid YAML: {problem}"
        return Node(None, Origin(file, line, layer)), [Problem((), problem, hint, Place(file, line))]
    except (yaml.YAMLError, ValueError) as error:
        what = " ".join(str(error).split()) or type(error).__name__
        return Node(None, Origin(file, first_line, layer)), [
            Problem((), f"not valid YAML: {what}", "save the file as UTF-8 text", Place(file, first_line))
        ]
    builder = _Builder(file, layer, yaml11, first_line)
    if composed is None:
        return Node(None, Origin(file, first_line, layer)), []
    try:
        node = builder.build(composed, ())
    except _TooLarge:
        return Node(None, Origin(file, first_line, layer)), [
            Problem(
                (), f"has more than {MAX_NODES} values once its aliases are expanded", "write them out", Place(file, first_line)
            )
        ]
    return node, builder.errors


class _TooLarge(Exception):
    pass


class _Builder:
    def __init__(self, file: str, layer: str, yaml11: bool, first_line: int) -> None:
        self.file, self.layer, self.yaml11, self.first_line = file, layer, yaml11, first_line
        self.errors: list[Problem] = []
        self.count = 0
        self.open: set[int] = set()

    def origin(self, node: Any) -> Origin:
        return Origin(self.file, node.start_mark.line + self.first_line, self.layer)

    def error(self, node: Any, path: Path, message: str, hint: str) -> None:
        self.errors.append(Problem(path, message, hint, self.origin(node).place))

    def build(self, node: Any, path: Path, key: Any = None) -> Node:
        self.count += 1
        if self.count > MAX_NODES:
            raise _TooLarge
        # The line of a key tells more than the line of the map or list below it.
        origin = self.origin(key if key is not None and not isinstance(node, yaml.ScalarNode) else node)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, path, origin)
        if id(node) in self.open:
            self.error(node, path, "the alias contains itself", "write the value out")
            return Node(None, origin)
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return Node([self.build(item, (*path, i)) for i, item in enumerate(node.value)], origin)
            return Node(self.mapping(node, path), origin)
        finally:
            self.open.discard(id(node))

    def mapping(self, node: Any, path: Path) -> dict[str, Node]:
        out: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        lines: dict[str, int] = {}
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.error(key, path, "a key must be a string", "quote it if it starts with '{', '[' or '?'")
                continue
            if key.value == "<<" and key.style not in _QUOTED:
                for each in item.value if isinstance(item, yaml.SequenceNode) else [item]:
                    if isinstance(each, yaml.MappingNode):
                        for name, found in self.build(each, path).value.items():
                            merged.setdefault(name, found)
                    else:
                        self.error(each, path, "'<<' merges maps only", "give it an alias of a map")
                continue
            name = str(key.value)
            if name in lines:
                self.error(key, (*path, name), f"duplicate key, first defined on line {lines[name]}", "keep one of them")
                continue
            lines[name] = key.start_mark.line + self.first_line
            out[name] = self.build(item, (*path, name), key)
        for name, found in merged.items():
            out.setdefault(name, found)
        return out

    def scalar(self, node: Any, path: Path, origin: Origin) -> Node:
        text = str(node.value)
        tag = str(node.tag)
        core = tag.startswith("tag:yaml.org,2002:")
        if not core and tag != "!":
            self.error(node, path, f"the tag {tag!r} is unknown", "remove it")
        if node.style in _QUOTED or tag == "!":
            return Node(text, origin)
        value = scalar(text, yaml11=self.yaml11)
        return Node(value, origin, None if isinstance(value, str) else text)


def read_text(file: str, problems: list[Problem], origin: Origin | None = None, path: Path = ()) -> str | None:
    """The text of a file (UTF-8, at most 16 MiB); None after adding an error, at `origin` when a value named the file."""
    place = origin.place if origin else Place(file)
    name = f"the file {file!r}" if origin else "the file"
    try:
        with open(file, "rb") as handle:
            data = handle.read(MAX_BYTES + 1)
    except OSError as error:
        hint = {
            FileNotFoundError: "check the path",
            PermissionError: "make it readable for the user kofagent runs as",
            IsADirectoryError: "name a file in it",
        }.get(type(error), "check the path and its permissions")
        problems.append(Problem(path, f"{name} cannot be read: {os.strerror(error.errno or 0)}", hint, place))
        return None
    if len(data) > MAX_BYTES:
        problems.append(Problem(path, f"{name} is larger than 16 MiB", "check that it is the right file", place))
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problems.append(Problem(path, f"{name} is not UTF-8 text", "save it as UTF-8", place if place.line else Place(file, line)))
        return None


def load_file(file: str, *, layer: str = "user", yaml11: bool = False, label: str | None = None) -> Node:
    """The tree of a file that must hold a map (an empty file is an empty map); raises `ConfigErrors`."""
    problems: list[Problem] = []
    text = read_text(file, problems)
    if text is None:
        raise ConfigErrors(problems)
    node, problems = parse(text, label or file, layer=layer, yaml11=yaml11)
    return as_map(node, problems)


def as_map(node: Node, problems: list[Problem]) -> Node:
    """`node`, null as an empty map; raises `ConfigErrors` for anything else and for the problems so far."""
    if node.value is None:
        node = Node({}, node.origin)
    elif not node.is_map:
        problems.append(node.problem((), "must be a map of sections", "start with a line such as 'receivers:'"))
    if problems:
        raise ConfigErrors(problems)
    return node

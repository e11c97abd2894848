"""Names of units as systemctl completes them, and patterns of such names."""

from __future__ import annotations

import re
from collections.abc import Callable

from kofagent.config.re2 import compile_re2

_TYPES = ("service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope")
_OF_GLOB = re.compile(r"[A-Za-z0-9:_.@\\*?\[\]!^-]+")


def is_glob(text: str) -> bool:
    """Whether a name is a pattern of names."""
    return any(c in text for c in "*?[")


def unit_name(name: str) -> str:
    """`ssh` is ssh.service, `/dev/sda` dev-sda.device, `/home` home.mount; patterns stay as they are.

    ValueError for what cannot be a unit.
    """
    if not name or "\0" in name or len(name) > 1000:
        raise ValueError(f"{name[:100]!r} cannot be the name of a unit")
    if is_glob(name) and _OF_GLOB.fullmatch(name):
        return name
    if name.startswith("/"):
        path = "/".join(part for part in name.split("/") if part)
        device = path.startswith(("dev/", "sys/"))
        return (_escaped(path, "") or "-") + (".device" if device else ".mount")
    known = "." in name and name.rpartition(".")[2] in _TYPES
    return _escaped(name, "@.-\\") + ("" if known else ".service")


def _escaped(text: str, kept: str) -> str:
    """The text with what names do not have as systemd writes it: `-` for a slash, codes for the others."""
    out = ""
    for i, c in enumerate(text):
        if c == "/":
            out += "-"
        elif (c.isascii() and c.isalnum()) or c in ":_" or c in kept or (c == "." and i > 0):
            out += c
        else:
            out += "".join(f"\\x{b:02x}" for b in c.encode("utf-8", "surrogatepass"))
    return out


def pattern(glob: str) -> Callable[[str], bool]:
    """Whether a whole name is matched by a glob (`*`, `?`, `[a-z]`, `[!a-z]`)."""
    out, at = "", 0
    while at < len(glob):
        c = glob[at]
        end = glob.find("]", at + 2 + (glob[at + 1 : at + 2] in ("!", "^"))) if c == "[" else -1
        if end > 0:
            negated = glob[at + 1] in "!^"
            inner = glob[at + 1 + negated : end].replace("\\", "\\\\").replace("[", "\\[")
            out += f"[{'^' if negated else ''}{inner}]"
            at = end
        else:
            out += {"*": ".*", "?": "."}.get(c) or re.escape(c)
        at += 1
    expression = compile_re2(out, "(?s)")
    return lambda text: expression.fullmatch(text) is not None

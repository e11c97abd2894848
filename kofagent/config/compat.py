"""Private APIs of libraries, all in one place: what is not promised by a library can go with its next version.

Every accessor raises `IncompatibleLibrary`, which names the library, its version and what is gone; `tests/config/test_compat.py`
uses each of them as the product does. Code elsewhere reaches into no library.
"""

from __future__ import annotations

import codecs
import json
import platform
import re
import ssl
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from types import FrameType
from typing import Any, Protocol

import re2


class IncompatibleLibrary(RuntimeError):
    """The installed version of a library no longer has something that the agent uses and that the library never promised."""


def private(library: str, owner: Any, path: str, purpose: str) -> Any:
    """What `path`, such as `_re2.RE2`, names in `owner`, of the distribution `library` (`Python`: the standard library)."""
    found = owner
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            place = f"{getattr(owner, '__name__', type(owner).__name__)}.{path}"
            raise IncompatibleLibrary(
                f"{library} {_version(library)} has no {place}, which is needed to {purpose}; install a version that has it"
            ) from None
    return found


def _version(library: str) -> str:
    if library == "Python":
        return platform.python_version()
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "(unknown version)"


class Re2Pattern(Protocol):
    """A compiled pattern of google-re2 as its C++ library has it, without the module's layer in Python.

    `ok` and `error` say whether and why the pattern is refused. `Match(anchor, data, start, end)` searches UTF-8 bytes and returns
    the offsets of the match and of its groups, (-1, -1) for what took no part.
    """

    Match: Any

    def ok(self) -> bool:
        """Whether the pattern was taken."""
        ...

    def error(self) -> object:
        """Why it was refused."""
        ...

    def NamedCapturingGroups(self) -> Iterable[tuple[bytes | str, int]]:  # noqa: N802 - as the library names it
        """The names of groups, with their numbers."""
        ...


def re2_pattern(source: bytes, options: Any) -> Re2Pattern:
    """google-re2: the pattern of `source` (UTF-8) compiled with `re2.Options`. A refused pattern is not `ok()`."""
    # hot: log_line, one search a line: the module's own `search` makes an object in Python for each
    make = private("google-re2", re2, "_re2.RE2", "search bytes with regular expressions")
    compiled: Re2Pattern = make(source, options)
    for name in ("ok", "error", "Match", "NamedCapturingGroups"):
        private("google-re2", compiled, name, "search bytes with regular expressions")
    return compiled


def re2_unanchored() -> Any:
    """google-re2: the argument of `Match` that lets a match begin anywhere."""
    return private("google-re2", re2, "_Anchor.UNANCHORED", "search bytes with regular expressions")


def is_text_codec(info: codecs.CodecInfo) -> bool:
    """Python: whether a codec decodes bytes to `str`, which `base64` and others do not."""
    found: bool = private("Python", info, "_is_text_encoding", "tell encodings from other codecs")
    return found


def json_string_scanner() -> Callable[[str, int, bool], tuple[str, int]]:
    """Python: reads the JSON string that begins before an index; returns it and where it ends. ValueError for one that is wrong."""
    found: Callable[[str, int, bool], tuple[str, int]] = private("Python", json.decoder, "scanstring", "read long lists in JSON")
    return found


def regex_tree(source: str) -> Any:
    """Python: the parse tree of a regular expression of `re`, an iterable of (operation, argument); `re.error` for a wrong one."""
    return private("Python", re, "_parser.parse", "read regular expressions")(source)


def running_frame(thread: int) -> FrameType | None:
    """Python: what a thread, named by `threading.get_ident`, runs at this moment; None when there is no such thread."""
    frames: Callable[[], dict[int, FrameType]] = private("Python", sys, "_current_frames", "name who holds the event loop")
    # not in a variable: the frames of all threads, this one's among them, would be a cycle, which keeps what they have at hand
    return frames().get(thread)


def unverified_certificate(tls: ssl.SSLObject) -> dict[str, Any]:
    """Python: what `getpeercert` would say of the peer's certificate had it been verified; empty without one."""
    chain = private("Python", tls, "_sslobj.get_unverified_chain", "describe certificates that are not verified")() or [None]
    return {} if chain[0] is None else dict(private("Python", chain[0], "get_info", "describe certificates")())

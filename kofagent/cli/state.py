"""Where `kofagent run --values` keeps queues and places: the first directory that it may write to and that no other agent has.

The directory of a role is locked as long as the process lives, since two agents cannot share the files. An agent without a
directory runs all the same, with queues in memory, and says once what that costs.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

SYSTEM = "/var/lib/otelcol/file_storage"
"""Upstream's default of `file_storage`."""
NONE = "none"

_locked: dict[str, int] = {}
"""Directories of this process, which has them also after a reload."""


class State(NamedTuple):
    """A directory; empty: none, with the reason, which is empty when the user wants none."""

    directory: str
    why: str = ""


def find_state(wanted: str | None, role: str, environ: Mapping[str, str]) -> State:
    """The directory of a role: below the wanted one (`--state`, KOFAGENT_STATE), or else below the first usual one that works."""
    wanted = wanted or environ.get("KOFAGENT_STATE")
    if wanted == NONE:
        return State("")
    reasons = []
    for parent in [wanted] if wanted else _usual(environ):
        directory = os.path.join(parent, role)
        if why := _take(directory):
            reasons.append(f"{directory} {why}")
        else:
            return State(directory)
    return State("", "; ".join(reasons))


def _usual(environ: Mapping[str, str]) -> Iterator[str]:
    unit = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if unit:  # systemd's StateDirectory=
        yield unit
    yield SYSTEM
    home = environ.get("XDG_STATE_HOME") or (os.path.join(environ["HOME"], ".local", "state") if environ.get("HOME") else "")
    if os.path.isabs(home):
        yield os.path.join(home, "kofagent")


def _take(directory: str) -> str:
    """Makes and locks a directory; what is wrong with it, or nothing."""
    if directory in _locked:
        return ""
    handle = -1
    try:
        os.makedirs(directory, 0o750, exist_ok=True)
        handle = os.open(os.path.join(directory, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if handle >= 0:
            os.close(handle)
        return "is used by another agent" if isinstance(error, BlockingIOError) else f"cannot be used: {error.strerror}"
    _locked[directory] = handle
    return ""

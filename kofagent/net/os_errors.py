"""Why a connection failed, in the operating system's words."""

from __future__ import annotations

import os
import socket


def os_reason(error: OSError) -> str:
    """`Connection refused` rather than asyncio's `Connect call failed ('127.0.0.1', 6443)`; names that do not resolve say so."""
    number = error.errno or 0
    if number > 0 and not isinstance(error, socket.gaierror):
        return os.strerror(number)
    return error.strerror or str(error) or type(error).__name__

"""Lines as upstream's trim and split functions leave them: the plain twin of filelog's `Clean`."""

from __future__ import annotations


def clean(text: bytes, leading: bool, trailing: bool) -> bytes:
    """Every line without its carriage return and, unless kept, without white space at its ends; no empty lines."""
    out = b""
    for line in text.split(b"\n")[:-1]:
        if line.endswith(b"\r"):
            line = line[:-1]
        while not leading and line[:1] in (b" ", b"\t", b"\r"):
            if not line:
                break
            line = line[1:]
        while not trailing and line[-1:] in (b" ", b"\t", b"\r"):
            if not line:
                break
            line = line[:-1]
        if line:
            out += line + b"\n"
    return out

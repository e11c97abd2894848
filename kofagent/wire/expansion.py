"""How much memory small data may become: a byte of Thrift, or two of protobuf, are a whole struct where it has no fields."""

from __future__ import annotations

MAX_EXPANSION = 24
"""Bytes of memory for each byte of data; a tag of Jaeger's Thrift with nothing but a boolean comes to 23."""
_ALWAYS = 4 << 20
"""Bytes of memory that any data may take: a datagram in Thrift's compact protocol has less than a byte for some fields."""
STRUCT_BYTES = 300
"""What a struct takes with what is made of it."""


class Expansion:
    """The memory that is left for what is made of some data of `size` bytes."""

    def __init__(self, size: int) -> None:
        self._left = _ALWAYS + MAX_EXPANSION * size

    def take(self, size: int) -> None:
        """Bytes for what is made next. ValueError where that is more than any sender's data comes to."""
        self._left -= size
        if self._left < 0:
            raise ValueError("too many structs with next to nothing in them")

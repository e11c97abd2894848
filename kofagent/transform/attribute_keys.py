"""The keys of KeyValue messages, remembered by the message's bytes: the same attributes come again and again."""

from __future__ import annotations

from collections.abc import Sequence

from kofagent.memory.memo import Memo
from kofagent.wire.attributes import attribute_key

LONGEST = 512
"""Messages that cost more bytes with their key are bodies and stack traces; they do not come again."""

_known: Memo[bytes, bytes] = Memo("transform.attribute_keys", attribute_key, entries=20_000, size=4 << 20, longest=LONGEST)
_key_of = _known.__getitem__
_counts = _known.counts


def keys_of(pairs: Sequence[bytes]) -> list[bytes]:
    """The key of each message. ValueError where one is malformed."""
    # hot: otlp_attributes, 0.05 us a known attribute, 1.1 us an unknown one: one look-up in C instead of a walk in Python
    _counts.lookups += len(pairs)
    return list(map(_key_of, pairs))

"""How many examples a property gets that wants another number than most."""

from __future__ import annotations

from hypothesis import settings


def examples(full: int) -> int:
    """`full` where others have 100 (the profile `ci`), and as few of them elsewhere (`dev`)."""
    return max(5, full * min(100, settings().max_examples) // 100)


def at_most(most: int) -> int:
    """As many as others have, but no more than `most`: for a property that is held for each of many types."""
    return min(most, settings().max_examples)

"""The garbage collector of an agent that runs for long."""

from __future__ import annotations

import gc

from kofagent.memory import usage


def settle() -> None:
    """Collects all garbage and sets what is left aside, so that later collections need not traverse it again and again.

    To be called when what will live long is complete: after the start, and after a reload, whose old components are cycles that
    were set aside before and would stay for ever.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    # columns and batches are many objects without cycles: looking for cycles among them was a fifth of a scrape's CPU
    gc.set_threshold(20_000, 20, 50)
    usage.give_back()

"""`kofagent migrate FILE --to VERSION`: values of an older KOF as those of a newer one."""

from __future__ import annotations

import argparse
import sys

from kofagent.config.errors import ConfigErrors
from kofagent.values.migrate import migrate


def main(arguments: argparse.Namespace) -> int:
    """Prints the new values, with comments on what differs; 1 with every error when the old ones are wrong."""
    try:
        text = migrate(arguments.files, arguments.to, arguments.generation)
    except ConfigErrors as errors:
        print(errors, file=sys.stderr)
        return 1
    print(text, end="")
    return 0

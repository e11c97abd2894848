"""`python -m kofagent`."""

import sys

from kofagent.cli.main import main

sys.exit(main())

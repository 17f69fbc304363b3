"""Runs the command line with ``python -m polysync_airflow.cli``."""

from __future__ import annotations

import sys

from polysync_airflow.cli.command_line import main

if __name__ == "__main__":
    sys.exit(main())

"""
The command line ``polysync``.

``command_line`` runs it, and has the commands that need a connection; ``events``, ``iam`` and ``records`` are
commands of their own, ``verify`` signs in for one of the emulator's, and ``output`` is what all have in
common. ``commands.toml`` has the options and the help of all.

Importing it imports neither Airflow nor boto3, so that ``polysync --help`` answers at once. A command imports
what it needs when it runs.
"""

from polysync_airflow.cli.command_line import main

__all__ = ["main"]

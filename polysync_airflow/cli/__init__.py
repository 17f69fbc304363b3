"""
The command line ``polysync``.

``command_line`` runs it. Each command, or group of commands, has a module of its name,
with a ``main``, which is imported when the command runs. ``verify`` signs in for one of
the emulator's, and ``output`` is what all have in common. ``commands.toml`` has the
options and the help of all.

Importing it imports neither Airflow nor boto3, so that ``polysync --help`` answers at
once.
"""

from polysync_airflow.cli.command_line import main

__all__ = ["main"]

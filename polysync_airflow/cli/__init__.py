"""
The command line ``polysync``.

Importing it imports neither Airflow nor boto3, so that ``polysync --help`` answers at once. A command imports
what it needs when it runs.
"""

from polysync_airflow.cli.command_line import main

__all__ = ["main"]

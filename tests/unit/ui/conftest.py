"""What is tested without an API server."""

from __future__ import annotations

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES

# It imports the application when it is collected.
collect_ignore = [] if CAPABILITIES.react_apps else ["test_static_files.py"]

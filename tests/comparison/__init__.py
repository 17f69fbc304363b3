"""Owns the environment that comparisons run in, set before the first import of Airflow, which reads it once.

Comparisons are no tests: each is run by hand and prints what it saw.
"""

from __future__ import annotations

import os
import tempfile

_home = tempfile.TemporaryDirectory(prefix="polysync-comparison-")
os.environ["AIRFLOW_HOME"] = _home.name
for _name in [name for name in os.environ if name.startswith("AWS_")]:
    # No operator may find credentials, or retry settings, that its row did not give it.
    del os.environ[_name]
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"

"""
Comparison of this provider with the amazon provider. It is run by hand and prints a
Markdown table.

This module sets the environment variables before the first import of Airflow, which
reads them only once.
"""

from __future__ import annotations

import os
import tempfile

_home = tempfile.TemporaryDirectory(prefix="polysync-comparison-")
os.environ["AIRFLOW_HOME"] = _home.name
for _name in [name for name in os.environ if name.startswith("AWS_")]:
    # Operators must use only the credentials and retry settings of their test case.
    del os.environ[_name]
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"

"""
Prints the comparison as a Markdown table: ``make compare``.

This module sets the environment variables before the first import of Airflow, which
reads them only once.
"""

from __future__ import annotations

import os
import sys
import tempfile

_home = tempfile.TemporaryDirectory(prefix="polysync-comparison-")
os.environ["AIRFLOW_HOME"] = _home.name
for _name in [name for name in os.environ if name.startswith("AWS_")]:
    # Operators must use only the credentials and retry settings of their test case.
    del os.environ[_name]
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"

from tests.comparison.amazon_outcomes import main  # noqa: E402

sys.exit(main())

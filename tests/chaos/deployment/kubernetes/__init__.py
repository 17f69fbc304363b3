"""
A Kubernetes cluster for KubernetesExecutor: an API on the loopback interface, whose
pods are processes of this machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

# The pods of Airflow's executor: with the entry point of Airflow's image, and without
# one, as images that users make.
POD_TEMPLATE: Final = Path(__file__).with_name("pod.yaml")
BARE_POD_TEMPLATE: Final = Path(__file__).with_name("bare_pod.yaml")

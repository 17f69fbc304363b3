"""
KubernetesExecutor for the versions of Airflow that
``tests/system/airflow/executors.py`` describes.
"""

from __future__ import annotations

from airflow.providers.cncf.kubernetes.executors.kubernetes_executor import (
    KubernetesExecutor,
)

from tests.system.airflow.executors import CallbacksInOwnSession


class KubernetesExecutorWithOwnSession(CallbacksInOwnSession, KubernetesExecutor):
    """KubernetesExecutor that stores requests for callbacks in a session of its own."""

"""The settings of the deployment: options of Airflow, by environment variables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from tests.chaos.deployment.kubernetes import POD_TEMPLATE
from tests.chaos.deployment.kubernetes.api import client_settings
from tests.system.airflow.versions import INSTALLED

# Seconds without a heartbeat after which the other triggerer takes over a triggerer's
# triggers.
TRIGGERER_THRESHOLD: Final = 10
# Seconds without a heartbeat after which a task counts as dead. Long, because the
# machine may be busy.
WORKER_THRESHOLD: Final = 20

PRICES: Final = {
    "currency": "USD",
    "date": "2026-11-01",
    "prices": {"us-east-1": {"ml.m5.large": 3600, "ml.m5.xlarge": 3600}},
}
SETTINGS: Final = {
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    # high, because tasks that wait in a worker need almost no CPU
    "AIRFLOW__CORE__PARALLELISM": "32",
    "AIRFLOW__POLYSYNC_SAGEMAKER__HOURLY_PRICES": json.dumps(PRICES),
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
    # Long, because the first request of a task, and the first callback in the DAG
    # processor, wait until Airflow has built its API, which takes most of a minute on a
    # busy machine. The file of the DAGs is then read in more than 30 s, too.
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "90",
    "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "120",
    "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "180",
    "AIRFLOW__DAG_PROCESSOR__PRINT_STATS_INTERVAL": "0",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": f"{WORKER_THRESHOLD}",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
    # One of the DAGs has the schedule that an asset has an event.
    "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": f"{TRIGGERER_THRESHOLD}",
}
# Each trigger has the queue of its task.
QUEUE_SETTINGS: Final = {"AIRFLOW__TRIGGERER__QUEUES_ENABLED": "True"}
# Processes of each Celery worker, of which each runs one task. Enough for the tasks
# that wait in a worker.
WORKER_CONCURRENCY: Final = 8
# Seconds after which the broker sends a message again if no worker has confirmed the
# end of its task. Kombu then looks for such messages every two seconds, instead of
# every hundred.
SHORT_VISIBILITY: Final = {
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "20",
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__UNACKED_RESTORE_INTERVAL": "2",
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__UNACKED_RESTORE_THROTTLE": "1",
}


def celery_settings(broker_url: str, database: str) -> dict[str, str]:
    """Return the settings of CeleryExecutor."""
    return {
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CELERY__BROKER_URL": broker_url,
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database}",
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": f"{WORKER_CONCURRENCY}",
        "C_FORCE_ROOT": "true",  # without it, Celery warns about root at each start
    }


def pod_settings(cluster_folder: Path, home: Path) -> dict[str, str]:
    """Return the settings of KubernetesExecutor."""
    return {
        "AIRFLOW__CORE__EXECUTOR": INSTALLED.kubernetes_executor,
        "AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER": "False",
        "AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE": str(
            client_settings(cluster_folder)
        ),
        "AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE": str(POD_TEMPLATE),
        "AIRFLOW__KUBERNETES_EXECUTOR__WORKER_PODS_CREATION_BATCH_SIZE": "16",
        "TMPDIR": str(home),  # the client of Kubernetes leaves a file
    }

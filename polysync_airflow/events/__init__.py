"""
Events of SageMaker become asset events of Airflow, by a queue that a rule of
EventBridge fills.

``execution/events`` has what an event says and which ones a watcher wants. Here are the
trigger of an ``AssetWatcher``, and the one reader that all watchers of a queue share in
a triggerer (``trigger``), and its calls of SQS (``queue``).
"""

from polysync_airflow.events.trigger import PolysyncSageMakerEventTrigger

__all__ = ["PolysyncSageMakerEventTrigger"]

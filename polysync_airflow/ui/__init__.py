"""The tab "SageMaker" of a task instance in the Airflow UI: the plugin, and how its files are served."""

"""The tab "SageMaker" of a task instance in the Airflow UI: the plugin, its static files, and how they are served."""

"""The page with all executions, in a browser, in a real Airflow."""

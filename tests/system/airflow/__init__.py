"""An Airflow that only the tests use, and a client of its REST API."""

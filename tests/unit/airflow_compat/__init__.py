"""The seam between the provider and the versions of Airflow."""

"""Fakes of what Airflow offers to workers and triggerers."""

"""Forms of Airflow that the provider fills."""

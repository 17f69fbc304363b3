"""Checks of the provider on each version of Airflow that managed services run, with their pins."""

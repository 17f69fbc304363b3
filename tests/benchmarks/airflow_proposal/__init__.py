"""A proposal for Airflow: its patch, and what it saves."""

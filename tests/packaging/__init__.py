"""Tests of the distribution: what Airflow is told, what the wheel holds, what an import costs."""

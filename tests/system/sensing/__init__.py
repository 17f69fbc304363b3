"""Tests of sensors in a whole Airflow."""

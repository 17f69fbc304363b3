"""Tests, and the demo, with a whole Airflow of their own."""

"""Tests that this version reads what earlier versions stored in Airflow's database."""

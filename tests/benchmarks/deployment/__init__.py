"""
Benchmark of deferred tasks in a real triggerer, in an Airflow deployment with
PostgreSQL.

The costs of Airflow itself are measured with the same number of triggers that only
sleep.
"""

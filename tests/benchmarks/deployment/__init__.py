"""
The benchmark in a real triggerer: Airflow with PostgreSQL, its REST API, and tasks that are deferred.

What Airflow itself costs is told apart by as many triggers that only sleep.
"""

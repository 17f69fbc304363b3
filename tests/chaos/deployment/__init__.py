"""
The deployment of the chaos suite: PostgreSQL, Redis for Celery, the emulator and its
call log, and an Airflow.
"""

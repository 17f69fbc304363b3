"""The deployment of the chaos suite: PostgreSQL, the emulator and its call log, and an Airflow."""

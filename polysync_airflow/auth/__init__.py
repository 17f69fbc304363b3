"""How an Airflow connection becomes AWS credentials: its fields, the sign-in methods, and their refresh."""

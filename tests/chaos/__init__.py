"""
Kills and restarts in a real Airflow: no execution may be started twice, and none may
run on after its task.
"""

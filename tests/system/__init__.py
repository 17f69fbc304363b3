"""System tests and the demo. Both start a whole Airflow of their own."""

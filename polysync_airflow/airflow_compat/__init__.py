"""
The only folder that knows which version of Airflow runs.

``capabilities`` says which features each supported version has. The other modules hide the differences.
"""

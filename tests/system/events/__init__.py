"""
Events of SageMaker in a real Airflow: how soon a DAG starts, and what a killed
triggerer loses.
"""

"""
Tests of the tab "SageMaker": its files and its plugin, and what a person sees in a real
Airflow UI.
"""

"""
Checks of the provider on other versions of Airflow: those of managed services, with
their pins, and a pre-release.
"""

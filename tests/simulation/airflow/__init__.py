"""
A simulated Airflow: what the provider's code meets of the real one.

``deployment`` puts the rooms together. ``database`` has the rows and the API server
before them, ``doors`` the ways to the rows that the provider has in the scheduler, the
API server and commands; ``scheduler``, ``workers`` and ``triggerers`` have what Airflow
does with the rows, ``people`` what users do.

Each rule names the function of Airflow 3.3 that it follows.
``tests/simulation/test_airflow_rules.py`` compares the main ones with the real ones.
"""

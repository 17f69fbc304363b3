"""
A simulated Airflow: what the provider's code meets of the real one.

``deployment`` puts the rooms together. ``database`` has the rows and the API server
before them, ``scheduler``, ``workers`` and ``triggerers`` what Airflow does with them,
``people`` what users do, and what breaks.

Each rule names the function of Airflow that it follows.
"""

"""
The pure core of the provider: models, parameters, and the decisions of a wait and of a new try.

The modules make no calls to AWS or Airflow, and receive the time as an argument.
"""

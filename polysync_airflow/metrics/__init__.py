"""
The metrics of the provider, which go where the deployment's own metrics go.

All metrics are in ``catalogue``. ``sending`` is the only door to Airflow's ``Stats``. ``tally`` adds up what
happens often, so that nothing is sent for each poll and each wait.
"""

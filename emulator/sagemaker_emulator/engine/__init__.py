"""
The discrete-event simulation of pipeline executions: definitions, expressions,
scenarios and the state of each step.

It uses the standard library only, knows neither HTTP nor the API, and gets the current
time from its callers.
"""

"""
Measurements: the processes in which the providers' code runs, their CPU time and
memory, and the event loop.
"""

"""
Processes that the tests and the demo start, and the signals and the terminal of their
own process.
"""

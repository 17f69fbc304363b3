"""
Owns the benchmarks: each is run by hand, measures in fresh processes, and prints what it saw.

``python -m tests.benchmarks`` is their command line, and ``make bench`` runs it in an environment in which the
amazon provider's triggers run, too.
"""

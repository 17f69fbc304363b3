"""
Benchmarks of this provider and of the amazon provider. They are run by hand and print
Markdown tables.

``python -m tests.benchmarks`` is the command line. ``make bench`` runs it in an
environment that has aiobotocore, which the amazon provider's triggers need. Everything
is measured in fresh processes.
"""

"""
What AWS says of changes in events: of executions, their steps, and model packages.

``changes`` reads the messages of a queue, ``watch`` says which changes a watcher wants, and ``resources``
describes the rule and the queue in AWS.
"""

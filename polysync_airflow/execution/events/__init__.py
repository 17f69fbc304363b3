"""
What AWS says of changes in events: of executions, their steps, and model packages.

``messages`` reads the message of a queue, ``watch`` says which changes a watcher wants, ``memory`` knows what
was seen before, and ``resources`` describes the rule and the queue in AWS.
"""

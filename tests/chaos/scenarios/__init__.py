"""
The scenarios of the test cases, from the trigger of the DAG to the end of the task.

A scenario ends when the task has ended. The module `checks` then checks the executions.
"""

"""
The steps of an execution.

AWS's list of them and the XComs that are made of it (``descriptions``), their progress
and the step that a task awaits (``progress``), and callback steps with their messages
(``callbacks``).
"""

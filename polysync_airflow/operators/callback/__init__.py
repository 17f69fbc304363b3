"""
Callback steps: the operator, and the decorator, whose function answers one.

``operator`` has the arguments and the wait. ``run`` looks at the step and calls the function, ``messages``
receives its message and gives the one answer. What is decided is in ``execution/steps/callbacks.py``.
"""

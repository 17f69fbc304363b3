"""
The scenarios: what the checks do in an account. Each subject of beliefs has a module.

A scenario is a function that ``beliefs.toml`` names. It yields what it has observed, by
the names of the beliefs: a text or ``Observation``, which are compared with what is
expected, a ``Refusal`` of AWS in words, or ``NotCheckedError``. It raises
``NotCheckedError`` if a premise of the rest is not true: an execution has another
status, a step is not listed, an ordinary request is refused. It tests the premise after
what it observes, because a status may have changed meanwhile.

A scenario uses only executions of its own, except for those of ``Account.once``, which
nobody changes.
"""

"""
What is done in an account, by the subjects of the beliefs.

A function that ``beliefs.toml`` names yields what it has observed, by the names of the
beliefs: a text or ``Seen`` (compared with what is expected), a ``Refusal`` of AWS (told
in words), or ``NotCheckedError``. It raises ``NotCheckedError`` when what the rest
relies on is not true: an execution has another status, a step is not listed, an
ordinary request is refused. It tests this after what it observes, because a status may
have changed meanwhile.

It uses only executions of its own, except for those of ``Account.once``, which nobody
changes.
"""

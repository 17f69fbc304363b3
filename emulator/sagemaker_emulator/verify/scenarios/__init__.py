"""
What is done in an account, by the subjects of the beliefs.

A function that ``beliefs.toml`` names returns what it has observed, by the names of the beliefs: a text or
``Seen`` (compared with what is expected), a ``Refusal`` of AWS (told in words), or ``NotCheckedError``. Other
functions make what several of these look at.
"""

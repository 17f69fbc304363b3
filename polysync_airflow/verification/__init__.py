"""
Compares what this provider believes of AWS with an account: ``polysync verify``.

``catalogue`` has the beliefs, ``beliefs/`` how each is checked, ``account`` what is made in the account and
how it is deleted, ``runner`` the run of the checks, and ``report`` what is told of it.
"""

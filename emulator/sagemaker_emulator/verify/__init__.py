"""
Compares what is believed of AWS with an account.

It is the command ``polysync verify``, or ``python -m sagemaker_emulator verify``.
``beliefs.toml`` has the beliefs, ``scenarios/`` what is done in the account to check
them, ``account`` how it is looked at, ``cleaning`` how what was made is deleted,
``runner`` the run of the checks, ``report`` what is told of it.
"""

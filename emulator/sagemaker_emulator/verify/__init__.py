"""
Compares what is believed of AWS with an account.

It is the command ``polysync verify``, or ``python -m sagemaker_emulator verify``.
``beliefs.toml`` has the beliefs. The functions of ``scenarios/`` check them in an
``account``, ``runner`` runs these functions, ``report`` prints the results, and
``cleaning`` deletes the pipelines that the checks have created.
"""

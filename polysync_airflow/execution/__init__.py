"""
The pure core of the provider: models, parameters, and the decisions of a wait and of a
new try.

The modules make no calls to AWS or Airflow, need neither Airflow nor boto3 to be
installed, and receive the time as an argument:
requests and responses (``models``), pipelines, their definitions and selections
(``pipelines``), arguments (``parameters``), JSON of others (``json_input``), their
texts and numbers (``texts``), and the only source of time (``clock``). ``waiter``
decides after each poll, for all waits: for executions, for a model package that
somebody approves (``approval``), for an execution that others start (``search``).
``lifecycle`` is the life of an execution, ``steps`` are its steps, ``events`` what AWS
says of changes.
``results`` are what jobs have made, ``outcome`` and ``console`` the messages and links
about it.
"""

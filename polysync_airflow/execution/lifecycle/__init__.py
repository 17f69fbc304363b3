"""
The life of an execution: what a try does, from the records of earlier tries to its own
end.

- ``options``: what the DAG author chose about the executions of earlier tries.
- ``instructions``: the words: what happens (events), what is done next (commands in
  instructions), the record of an execution, the identity of a start.
- ``machine``: how a try begins, and the table of all transitions.
- ``lookup``: the execution of the earlier tries, where their record is missing.
- ``decisions``: what the status of that execution decides.
- ``ending``: what becomes of an execution that a process no longer waits for.
- ``orphans``: the same where no process of its task runs.
"""

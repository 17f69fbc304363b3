"""
The life of an execution: what a try does, from the records of earlier tries to its own
end.

``machine`` has how a try begins, and the table of all transitions, in the events and
instructions of ``instructions``, which has the record of an execution and the identity
of a start, too. ``decisions`` decides by the status of an earlier execution, and what
becomes of one whose task no longer waits for it.
"""

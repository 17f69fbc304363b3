"""
The watch over executions whose task has ended while none of its processes ran.

``plugin`` registers the listeners in the scheduler and in the API server. ``listeners``
let a triggerer call ``callback`` for each execution that may be left. ``sweep`` does
the same for all records, for the command ``polysync records --stop-orphans``. Both
stop by ``orphan``; ``execution/lifecycle/orphans.py`` decides.
"""

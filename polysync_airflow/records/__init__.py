"""
The record of a task's execution.

``store`` reads and writes its Variable, ``proof`` signs it and its copy in the XComs, and says whether a task
has written what it reads. ``store`` also keeps what a user chose for the next clear, and finds the records
that no task needs any more.
"""

"""
The deferrable sensor: the trigger that searches for an execution, and the one that waits for a step.

The searches of an event loop with the same connection and region share a client, a few threads, and the lists
of each pipeline.
"""

"""The record of a task's execution: where it is stored, how it is signed, and who may act on it."""

"""Tests of the reader of the queue, and of the trigger of asset watchers."""

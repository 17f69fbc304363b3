"""Tests of what a Start task reports about the steps of its execution."""

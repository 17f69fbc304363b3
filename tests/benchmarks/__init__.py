"""Owns the benchmarks: each is run by hand, measures in fresh processes, and prints what it saw."""

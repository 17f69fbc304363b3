"""Tests of ``execution/results/``."""

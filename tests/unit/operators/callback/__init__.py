"""Tests of the operator that answers callback steps."""

"""Tests of the comparison with AWS."""

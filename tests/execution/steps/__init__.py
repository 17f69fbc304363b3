"""Tests of ``execution/steps/``."""

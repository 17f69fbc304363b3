"""Proves on real processes that nothing is started twice and nothing is left running, whatever dies."""

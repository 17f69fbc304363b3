"""Tests of the test kit for DAG authors."""

"""Tests of the fake servers, with the real clients: botocore and azure-identity."""

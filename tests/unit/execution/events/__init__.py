"""Tests of the events of SageMaker: what they say, and who wants them."""

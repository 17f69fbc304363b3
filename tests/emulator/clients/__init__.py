"""Tests of the emulator with the clients that people use: SDKs, the AWS CLI, and the operators of Amazon's provider."""

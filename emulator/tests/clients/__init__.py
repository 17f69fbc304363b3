"""Tests of the emulator with the clients that people use: SDKs, and the AWS CLI."""

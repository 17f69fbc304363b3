"""
The endpoint of the benchmarks: as much of SageMaker's and STS's API as they call, and fast.

The emulator behaves as AWS does, at a few dozen calls per second; to judge thousands of waits, the endpoint must
not be what is slow. It runs in a process of its own, on the loopback interface: ``python -m
tests.benchmarks.endpoint``. Signatures are not checked.
"""

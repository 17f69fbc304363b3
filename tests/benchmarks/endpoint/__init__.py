"""
The AWS test server of the benchmarks: the operations of SageMaker and STS that the
providers call.

It is faster than the emulator, which behaves like AWS but serves only a few dozen calls
per second. A benchmark of thousands of executions must not be limited by the server.
``python -m tests.benchmarks.endpoint`` runs it in a process of its own, on the loopback
interface. It does not check signatures.
"""

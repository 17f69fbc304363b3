"""
The pipeline operations of the SageMaker API, with validation, pagination and
idempotency, on top of the simulated executions in `engine`. It knows no HTTP and no
credentials.
"""

"""
How the provider calls AWS.

botocore sessions, without secrets in their debug log (``sessions``), retries with
backoff (``retry``), the token bucket (``rate_limiter``), calls in several threads
(``concurrent_calls``), the mapping of errors and the limits of responses and lists
(``responses``), misspelt regions (``regions``), and a job's log (``job_logs``).
"""

"""How the provider calls AWS: sessions, retries with backoff, the rate limiter, and the mapping of errors."""

"""
Random input from outside: every outcome is a value or an error of this provider.

``POLYSYNC_FUZZ_EXAMPLES=5000 make test-provider ARGS=tests/fuzz`` runs more examples
for each test than the default of 40.
"""

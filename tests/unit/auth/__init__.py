"""
Tests of connections, authentication methods and credentials, with fake identity
providers.
"""

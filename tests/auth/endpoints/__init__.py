"""Owns the services that hand out identities, as stand-ins on the loopback interface that real clients use."""

"""
Fake metadata endpoints: services of the host or platform that give a process its
identity.
"""

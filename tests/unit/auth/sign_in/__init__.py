"""
Tests of the sign-in with all authentication methods, against the emulator and the fake
servers.
"""

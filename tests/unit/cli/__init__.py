"""Tests of the command line, with the emulator at the other end."""

"""Tests of the checks of ``polysync verify``, with the emulator in place of AWS."""

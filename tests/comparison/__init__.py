"""
Comparison of this provider with the amazon provider, and the emulator with that
provider's operators.
"""

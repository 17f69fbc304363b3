"""
The HTTP side of the emulator: the server, the router to the APIs and to moto, fault
injection, the call log, and the control API with its client.
"""

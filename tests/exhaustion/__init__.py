"""
What a deployment does while something that it needs is used up or fails: disk, database,
file descriptors, memory, the clock, names, the proxy, certificates, STS.
"""

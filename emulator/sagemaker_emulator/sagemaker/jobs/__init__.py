"""
What the steps create: jobs with their names, logs and descriptions, property files and
model packages.
"""

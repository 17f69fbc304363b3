"""
Definitions with the structure of real pipelines, as fixtures for import, form, start
and outcome.
"""

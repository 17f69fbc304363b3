"""Pipelines: AWS's descriptions of them, and the parameters and steps that their definitions declare."""

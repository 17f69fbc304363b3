"""Polysync jobs: SageMaker pipelines with the parameters that they declare."""

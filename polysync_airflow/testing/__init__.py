"""
A test kit for DAG authors: pytest fixtures that run DAGs with ``dag.test()`` against the SageMaker emulator.

``plugin`` has the fixtures. It needs the extra ``testing``.
"""

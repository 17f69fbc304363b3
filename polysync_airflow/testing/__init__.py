"""
A test kit for DAG authors: pytest fixtures that run DAGs with ``dag.test()`` against
the SageMaker emulator.

``plugin`` has the fixtures, ``emulator`` the emulator of a test and its time,
``dag_files`` the DAG files and Airflow's database. It needs the extra ``testing``.
"""

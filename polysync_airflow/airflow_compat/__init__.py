"""
The only folder that knows which version of Airflow runs.

``capabilities`` says which features each supported version has. The other modules hide
the differences: of classes and of the connection form (``sdk``), of task instances,
their XComs and Variables, and sensors (``task_instances``), of requests through a
supervisor, and of tasks without one (``supervisor``), of what Airflow hides of teams
(``teams``), of its Fernet key (``signatures``), and of the metadata database for
commands and the API server (``database``).
"""

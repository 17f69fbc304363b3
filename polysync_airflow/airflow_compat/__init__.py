"""
The only folder that knows which version of Airflow runs.

``capabilities`` says which features each supported version has. The other modules hide the differences:
classes (``sdk``), the retry decision before 3.3 (``retry_policy``), requests from a triggerer's threads
(``supervisor``), connections and their form (``connections``), sensors (``sensors``), task instances, their
XComs and Variables (``task_instances``), the process of a task (``task_process``), and the metadata database
for commands and the API server (``database``).
"""

"""
The record of a task's execution, kept between the tries in a Variable for each task
instance.

Its fields are defined by ``ExecutionRecord`` in
``execution/lifecycle/instructions.py``. ``keys`` says under which keys it is stored,
``serialization`` in which form, and when a stored one is believed. ``store`` reads and
writes that of a task, ``database`` those that Airflow's database has.
"""

"""
A deterministic simulation of whole deployments of Airflow.

The real operators, task group, triggers, pollers, failure callback, listener and watch
run in one process, in virtual time. A plan says what happens, a seed says in which
order::

    make simulation ARGS="search 0 400"         the plans that the seeds 0 to 399 draw
    make simulation ARGS="replay 41"            the trace of one of them, or of a file
    make simulation ARGS="shrink 41 plan.json"  the smallest plan that fails as it does

========================  =============================================================
``kernel``                virtual time and fibers; processes, which can be killed
``threads``               locks, events, futures, executors and event loops of fibers
``journal``               what happened, in order: the trace, and what the oracle reads
``aws``                   the emulator without HTTP, its faults, and who started what
``airflow/``              the database, scheduler, workers, triggerers and people
``installed``             puts these in place of threads, clock, supervisor and AWS
``dags``                  the pipeline and the tasks of a plan
``plans``                 a plan is data: it is drawn, stored, shrunk
``limits``                the plans that must keep ``max_cost``, as a table
``history``               the run of one plan
``oracle``                what a history must not have shown
========================  =============================================================

The modules of this package import those of the provider. So ``installed.install()``
comes first, in a process that does nothing else: nothing is put back.
"""

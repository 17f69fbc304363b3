"""
A retry, after a crash at any point: it continues with the execution of the earlier try,
also of a pipeline that AWS manages, and of selected steps.
"""

from __future__ import annotations

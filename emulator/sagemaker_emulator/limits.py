"""What the emulator refuses beside what AWS always refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Limits:
    """
    Quotas, and whether definitions are refused.

    The quotas are those that AWS gives to an account:
    https://docs.aws.amazon.com/general/latest/gr/sagemaker.html

    :param max_steps: the quota of steps in a pipeline.
    :param max_executions: the quota of executions that run at once.
    :param max_pipelines: the quota of pipelines in a region.
    :param max_ended_executions: how many executions of a region are kept after their
        end. This is no quota of AWS, which does not document how many it keeps.
    :param lenient: whether a definition that AWS would refuse is accepted with a
        warning.
    """

    max_steps: int = 50
    max_executions: int = 20
    max_pipelines: int = 500
    max_ended_executions: int = 100_000
    lenient: bool = False


#: Those of an account of AWS that has not asked for more.
DEFAULT_LIMITS: Final = Limits()

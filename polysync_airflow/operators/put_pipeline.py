"""The operator that creates or updates a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from polysync_airflow.operators import base

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from polysync_airflow.operators.put_pipeline_run import PutPipelineRun


class DefinitionFunction:
    """
    A function that returns a definition, as a templated argument.

    It cannot be called: Airflow 3 calls a function when it renders the templates. Its
    text is the same in each process: Airflow 2 stores it with the DAG, which would
    change each time the file is parsed.
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self.definition = function

    def __repr__(self) -> str:
        return f"<callable {getattr(self.definition, '__qualname__', 'definition')}>"


class PolysyncPutPipelineOperator(base.PolysyncOperator):
    """
    Create a SageMaker pipeline, or update it.

    A definition that differs from the latest one becomes a new version; white space and
    the order of keys do not count. The log says what has changed. Executions that run
    keep their version. API:
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_UpdatePipeline.html
    and API_CreatePipeline.html

    :param pipeline_name: the name of the pipeline, not its ARN: at most 256 characters,
        or 82 if a step starts a job (templated).
    :param definition: the definition (templated): a dict; JSON text; the path of a JSON
        file, which begins at the folder of the DAG file; or a function without
        arguments that returns one of these, or a ``Pipeline`` of SageMaker's Python
        SDK. The function is called when the task runs. What a file or a function has
        is not rendered.
    :param role_arn: the role that runs the steps (templated). Default: the role of the
        connection.
    :param pipeline_description: at most 3,072 characters (templated). Default: the one
        that the pipeline has.
    :param max_parallel_steps: how many steps of an execution may run at the same time,
        at least 1 (templated). Default: the limit that the pipeline has.
    :param pipeline_tags: tags of a pipeline that is created (templated). One that
        exists keeps its tags.
    :param polysync_conn_id: Airflow connection of type ``polysync_sagemaker`` or
        ``aws`` (templated).
    :param region_name: AWS region; overrides the region of the connection (templated).
    :return: the ARN of the pipeline (XCom ``return_value``). The XCom
        ``pipeline_version_id`` is the version with this definition, for a start.
    :raises ParametersError: an argument is not valid, or AWS would refuse the
        definition; no pipeline was created or updated.
    :raises CredentialsError: the connection is missing or unusable.
    :raises SageMakerApiError: AWS refused a call.
    """

    template_fields: Sequence[str] = (
        "pipeline_name",
        "definition",
        "role_arn",
        "pipeline_description",
        "max_parallel_steps",
        "pipeline_tags",
        "polysync_conn_id",
        "region_name",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"definition": "json"}
    ui_color = "#f0eafd"

    def __init__(
        self,
        *,
        pipeline_name: str | XComArg,
        definition: Mapping[str, Any] | str | Path | Callable[[], Any] | XComArg,
        role_arn: str | None = None,
        pipeline_description: str | None = None,
        max_parallel_steps: int | str | None = None,
        pipeline_tags: Mapping[str, str] | XComArg | None = None,
        polysync_conn_id: str = base.DEFAULT_CONNECTION,
        region_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Airflow replaces an XComArg by what it stands for before it calls execute.
        self.pipeline_name = cast("str", pipeline_name)
        source: Any = definition
        if isinstance(definition, Path):
            # Airflow renders texts only.
            source = str(definition)
        elif callable(definition):
            source = DefinitionFunction(definition)
        self.definition = source
        self.role_arn = role_arn
        self.pipeline_description = pipeline_description
        self.max_parallel_steps = max_parallel_steps
        self.pipeline_tags = pipeline_tags
        self.polysync_conn_id = polysync_conn_id
        self.region_name = region_name

    def _run_in(self, context: Context) -> PutPipelineRun:
        from polysync_airflow.operators.put_pipeline_run import PutPipelineRun

        return PutPipelineRun(self, context)

    @base.apply_retry_policy
    def execute(self, context: Context) -> str:
        """Create or update the pipeline, and return its ARN."""
        return self._run_in(context).execute()

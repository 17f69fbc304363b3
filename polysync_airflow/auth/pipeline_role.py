"""
What the role of a pipeline needs, which SageMaker assumes to run the steps.

``pipeline_role.toml`` has the rights by type of step, with their sources. Resources are
as narrow as the definition says: a reference counts as the default of its parameter, or
as what the other step has in its arguments. What is known only when a step starts is
``*``.
"""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from string import Formatter
from typing import Any, Final, NamedTuple

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution import models, texts
from polysync_airflow.execution.json_input import UnreadableJsonError, read_json

_TABLE: Final = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
_FACTS: Final = {
    name: {**_TABLE["default_fact"], **fact} for name, fact in _TABLE["facts"].items()
}
_URIS: Final = frozenset(_TABLE["uris"])
_ANY: Final = "*"
_INNER_STEPS: Final = ("IfSteps", "ElseSteps", "ForEachBody")
# No text of a resource is longer.
_MAX_TEXT: Final = 4096
# What Airflow renders in the config of a job.
_TEMPLATE: Final = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_PATH_PART: Final = re.compile(r"([\w-]+)|\[['\"](.*?)['\"]\]")
_Step = Mapping[str, Any]
_Path = tuple[str, ...]
# Texts by what they are, each with the member that has it.
_Facts = dict[str, list[tuple[str, str]]]


class RoleNeeds(NamedTuple):
    """
    What a role needs.

    :param role: the properties of ``AWS::IAM::Role`` in CloudFormation:
        https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-iam-role.html
    :param unknown: the members of steps whose resources cannot be told from others.
    :param notes: what else somebody who gives a role these rights must know.
    """

    role: dict[str, Any]
    unknown: list[str]
    notes: list[str]


def read_object(content: str | None, subject: str) -> dict[str, Any]:
    """
    Return a JSON object.

    :param subject: what is read, as an error begins: ``The definition``.
    :raises ParametersError: it is none.
    """
    try:
        value = read_json(content, subject)
    except UnreadableJsonError as error:
        raise ParametersError(f"{error}.") from None
    if not isinstance(value, dict):
        raise ParametersError(f"{subject} is no JSON object.")
    return value


def definition_of_job(job_type: str, config: _Step) -> dict[str, Any]:
    """
    Return the definition of a pipeline with one job.

    :param job_type: a type of ``JOB_TYPES``.
    :param config: the request of the job, as ``PolysyncRunJobOperator`` takes it.
    """
    steps: list[_Step] = [{"Name": "job", "Type": job_type, "Arguments": config}]
    if isinstance(config.get("Transform"), dict):
        made = {"ModelName": {"Get": "Steps.model.ModelName"}}
        transform = {**config["Transform"], **made}
        steps = [
            {"Name": "model", "Type": "Model", "Arguments": config.get("Model")},
            {"Name": "job", "Type": job_type, "Arguments": transform},
        ]
    return {"Steps": steps}


def role_needs(
    definition: _Step,
    *,
    account: str,
    region: str,
    partition: str = "aws",
    pipeline: str = _ANY,
    role_arn: str | None = None,
) -> RoleNeeds:
    """
    Return what the role of a pipeline needs.

    :param definition: the definition, parsed.
    :param account: 12-digit AWS account id.
    :param partition: the AWS partition, such as ``aws-us-gov``.
    :param pipeline: the name of the pipeline.
    :param role_arn: the role; None if it is not known, so that each job may have it.
    :raises ParametersError: a text in the definition is not valid, or it does not name
        the role of a job.
    """
    places = {"account": account, "region": region, "partition": partition}
    places["sagemaker"] = "arn:{partition}:sagemaker:{region}:{account}".format(
        **places
    )
    resources: dict[str, set[str]] = defaultdict(set)
    unknown: dict[str, None] = {}
    runs_jobs = False
    steps = _Steps(definition, pipeline, role_arn)
    for step in steps.by_name.values():
        facts = steps.facts(step)
        is_own = role_arn is None or role_arn in steps.roles(step)
        for right in _rights_of(step, facts):
            if right.get("own"):
                if not is_own:
                    continue
                runs_jobs = True
            for fact, member, value, arn in _resources(right, facts, places):
                resources[right["sid"]].add(arn)
                if member and not re.fullmatch(_FACTS[fact]["known"], value):
                    unknown[f"{_name(step)}: {member}"] = None
    sources = [f"{places['sagemaker']}:*"]
    if not runs_jobs:
        prefix = f"{places['sagemaker']}:pipeline/"
        sources = [f"{arn}/*" for arn in models.pipeline_arns(prefix, pipeline)]
    return RoleNeeds(_role(resources, sources), [*unknown], steps.notes)


def _role(resources: Mapping[str, set[str]], sources: list[str]) -> dict[str, Any]:
    """
    Return the properties of a role.

    https://docs.aws.amazon.com/sagemaker/latest/dg/security-confused-deputy-prevention.html

    :param resources: by the rights.
    :param sources: for what SageMaker may assume the role: the executions of the
        pipeline; if a job may have it, too, all of the account and region.
    """
    trust: dict[str, Any] = {"Effect": "Allow", "Action": "sts:AssumeRole"}
    trust["Principal"] = {"Service": "sagemaker.amazonaws.com"}
    trust["Condition"] = {"ArnLike": {"aws:SourceArn": sources}}
    statements = []
    for right in _TABLE["rights"]:
        statement = {"Sid": right["sid"], "Effect": "Allow", "Action": right["actions"]}
        statement["Resource"] = sorted(resources.get(right["sid"], ()))
        if "passed_to" in right:
            service = {"iam:PassedToService": right["passed_to"]}
            statement["Condition"] = {"StringEquals": service}
        if statement["Resource"]:
            statements.append(statement)
    policy = {"PolicyName": "pipeline", "PolicyDocument": _document(statements)}
    return {"AssumeRolePolicyDocument": _document([trust]), "Policies": [policy]}


def _document(statements: list[dict[str, Any]]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": statements}


def _rights_of(step: _Step, facts: _Facts) -> Iterator[_Step]:
    for right in _TABLE["rights"]:
        is_of = step["Type"] in right.get("of", [step["Type"]])
        if is_of and facts.get(right.get("with"), True):
            yield right


def _resources(
    right: _Step, facts: _Facts, places: Mapping[str, str]
) -> Iterator[tuple[str, str, str, str]]:
    """Yield the ARNs of a right, each after the fact, member and text in it."""
    for resource in right["resources"]:
        fields = [name for _, name, _, _ in Formatter().parse(resource)]
        fact = next((name for name in fields if name in facts), "")
        for member, value in facts.get(fact, [("", "")]):
            yield fact, member, value, resource.format(**places, **{fact: value})


class _Steps:
    """
    The steps of a definition, by name, with those in other steps.

    :ivar notes: what cannot be told.
    """

    def __init__(self, definition: _Step, pipeline: str, role_arn: str | None) -> None:
        entries = _steps_in(definition, ["Steps"])
        self.by_name = {str(step.get("Name")): step for step in entries}
        self.notes = [
            f"{_name(step)}: what steps of type {texts.shorten(step.get('Type'))} need"
            " is not known."
            for step in self.by_name.values()
            if step["Type"] not in _TABLE["known_types"]
        ]
        self._role_arn = role_arn
        self._values = {"Execution.PipelineName": pipeline}
        for entry in _objects(definition.get("Parameters")):
            if entry.get("DefaultValue") is not None:
                self._values[f"Parameters.{entry.get('Name')}"] = entry["DefaultValue"]
        self._texts: dict[str, str] = {}

    def facts(self, step: _Step) -> _Facts:
        """
        Return the facts of a step.

        :raises ParametersError: a text is not what it must be, or a job has no role.
        """
        members = []
        for path, value in _leaves(step, ()):
            text = self._text(value)
            if text.startswith(_ANY) and not {*path[-1:]}.isdisjoint(_URIS):
                text = f"s3://{text}"
            members.append((path, text))
        facts = {
            name: list(_matches(rule, members, step)) for name, rule in _FACTS.items()
        }
        facts["job"] = [("", self._job_name(step))]
        if not facts["role"] and step["Type"] in _TABLE["with_role"]:
            if not self._role_arn:
                raise ParametersError(
                    f"{_name(step)} names no role for its job: name the role of the"
                    " pipeline, which the job has then."
                )
            facts["role"] = [("RoleArn", self._role_arn)]
        return facts

    def roles(self, step: _Step) -> list[str | None]:
        """Return the roles of the job of a step; that of the pipeline for unknown."""
        if step["Type"] == "Transform":
            # The job of a transform has the role of its model.
            name = _get(step["Arguments"].get("ModelName"))
            maker = re.fullmatch(r"Steps\.(.+)\.ModelName", str(name))
            step = self.by_name.get(maker[1] if maker else "", step)
        return [role for _, role in self.facts(step)["role"]] or [self._role_arn]

    def _text(self, value: Any) -> str:
        """Return a value as a pattern of IAM."""
        text = _ANY
        reference = _get(value)
        if reference is not None:
            if reference not in self._texts:
                # In a definition that AWS would refuse, steps may refer to each other.
                self._texts[reference] = _ANY
                try:
                    self._texts[reference] = self._referenced(reference)
                except RecursionError:
                    raise ParametersError(
                        "The definition has a chain of references that is too long."
                    ) from None
            return self._texts[reference]
        match value:
            case str() if len(value) <= _MAX_TEXT:
                # With $, IAM would put in something else.
                text = _TEMPLATE.sub(_ANY, value).replace("$", "?")
            case {"Std:Join": {"On": str(separator), "Values": list(values)}}:
                text = separator.join(map(self._text, values))
            case bool() | int() | float():
                text = str(value)
        if len(text) > _MAX_TEXT:
            return _ANY
        return _collapsed(text)

    def _referenced(self, reference: str) -> str:
        if reference in self._values:
            return self._text(self._values[reference])
        root, _, rest = reference.partition(".")
        name, _, path = rest.partition(".")
        if root != "Steps" or name not in self.by_name:
            return _ANY
        step = self.by_name[name]
        if path == _TABLE["names"].get(step["Type"], [None])[0]:
            return self._job_name(step)
        for file in _objects(step.get("PropertyFiles")):
            if path == f"PropertyFiles.{file.get('PropertyFileName')}":
                output = f"ProcessingOutputConfig.Outputs['{file.get('OutputName')}']"
                folder = self._property(step, f"{output}.S3Output.S3Uri")
                return f"{folder.rstrip('/')}/{self._text(file.get('FilePath'))}"
        if path in _TABLE["properties"]:
            folder = self._property(step, _TABLE["properties"][path])
            return f"{folder.rstrip('/')}/*"
        return self._property(step, path)

    def _property(self, step: _Step, path: str) -> str:
        """Return what a path leads to in the arguments of a step."""
        value: Any = step["Arguments"]
        for part in _PATH_PART.finditer(path):
            name = part[1] or part[2]
            if not isinstance(value, dict):
                named = (each for each in _objects(value) if name in each.values())
                value = {name: next(named, None)}
            value = value.get(name)
        return self._text(value)

    def _job_name(self, step: _Step) -> str:
        member, default, longest = _TABLE["names"].get(step["Type"], ("", _ANY, 0))
        if member not in step["Arguments"]:
            return str(default)
        prefix = self._property(step, member).partition(_ANY)[0]
        return f"{prefix[:longest].rstrip('-')}{_ANY}"


def _steps_in(parent: _Step, members: Iterable[str]) -> Iterator[_Step]:
    for step in (each for name in members for each in _objects(parent.get(name))):
        arguments = step.get("Arguments")
        if not isinstance(arguments, dict):
            arguments = {}
        yield {**step, "Type": str(step.get("Type")), "Arguments": arguments}
        yield from _steps_in(arguments, _INNER_STEPS)


def _objects(entries: Any) -> list[dict[str, Any]]:
    if not isinstance(entries, list):
        return []
    return [entry for entry in entries if isinstance(entry, dict)]


def _get(value: Any) -> str | None:
    if isinstance(value, dict) and isinstance(value.get("Get"), str):
        return str(value["Get"])
    return None


def _name(step: _Step) -> str:
    return f"Step {texts.clean_line(str(step.get('Name')))}"


def _collapsed(pattern: str) -> str:
    return re.sub(r"\*+", _ANY, pattern)


def _leaves(value: Any, path: _Path) -> Iterator[tuple[_Path, Any]]:
    """
    Yield the values of a step, with the names of the members that lead to them. What
    ``Std:JsonGet`` reads is one of them, wherever it is.
    """
    if isinstance(value, list):
        for entry in value:
            yield from _leaves(entry, path)
    elif not isinstance(value, dict) or "Get" in value:
        yield path, value
    elif "Std:JsonGet" in value:
        yield from _leaves(value["Std:JsonGet"], ("Std:JsonGet",))
    else:
        if "Std:Join" in value:
            yield path, value
            path = ("Std:Join",)
        for name, member in value.items():
            if name not in _INNER_STEPS:
                yield from _leaves(member, (*path, name))


def _matches(
    rule: _Step, members: list[tuple[_Path, str]], step: _Step
) -> Iterator[tuple[str, str]]:
    """
    Yield what a fact of the table is in a step, with its members.

    :raises ParametersError: a text is not what it must be.
    """
    for path, text in members:
        if {*path}.isdisjoint(rule.get("in", path)) or {*path} & {*rule["not_in"]}:
            continue
        found = [
            _collapsed(match.expand(rule["value"])) or _ANY
            for match in re.finditer(rule["pattern"], text)
        ]
        if "in" in rule and text == _ANY:
            found = [_ANY]
        if rule.get("required") and not found:
            raise ParametersError(
                f"{_name(step)}: {path[-1]} = {texts.shorten(text)} is not valid."
            )
        yield from ((path[-1], each) for each in found)

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
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Formatter
from typing import Any, Final, NamedTuple

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution import models, texts
from polysync_airflow.execution.json_input import UnreadableJsonError, read_json

_TABLE: Final = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
_ANY: Final = "*"
_INNER_STEPS: Final = ("IfSteps", "ElseSteps", "ForEachBody")
# What Airflow renders in the config of a job.
_TEMPLATE: Final = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_PATH_PART: Final = re.compile(r"([\w-]+)|\[['\"](.*?)['\"]\]")
_Step = Mapping[str, Any]


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


def definition_of_job(job_type: str, config: str) -> dict[str, Any]:
    """
    Return the definition of a pipeline with one job.

    :param job_type: a type of ``JOB_TYPES``.
    :param config: the request of the job as JSON, as ``PolysyncRunJobOperator`` takes
        it.
    :raises ParametersError: it is no JSON object.
    """
    arguments = _read(config, "The config")
    steps = []
    if isinstance(arguments.get("Transform"), dict):
        model = {"Name": "model", "Type": "Model", "Arguments": arguments.get("Model")}
        steps.append(model)
        made = {"ModelName": {"Get": "Steps.model.ModelName"}}
        arguments = {**arguments["Transform"], **made}
    return {
        "Steps": [*steps, {"Name": "job", "Type": job_type, "Arguments": arguments}]
    }


def role_needs(  # noqa: PLR0913 (options of a command)
    definition: str | None | Mapping[str, Any],
    *,
    account: str,
    region: str,
    partition: str = "aws",
    pipeline: str = _ANY,
    role_arn: str | None = None,
) -> RoleNeeds:
    """
    Return what the role of a pipeline needs.

    :param definition: the definition, as JSON or parsed.
    :param account: 12-digit AWS account id.
    :param partition: the AWS partition, such as ``aws-us-gov``.
    :param pipeline: the name of the pipeline.
    :param role_arn: the role; None if it is not known, so that each job may have it.
    :raises ParametersError: the definition is not valid, or does not name the role of a
        job.
    """
    if not isinstance(definition, Mapping):
        definition = _read(definition, "The definition")
    steps = _Steps(definition, pipeline, role_arn)
    policy = _Policy(account=account, region=region, partition=partition)
    for step in steps.by_name.values():
        roles = steps.roles(step)
        policy.add(
            step, steps.facts(step), not role_arn or role_arn in (roles or [role_arn])
        )
    return policy.needs(pipeline)


def _read(content: str | None, subject: str) -> dict[str, Any]:
    try:
        value = read_json(content, subject)
    except UnreadableJsonError as error:
        raise ParametersError(f"{error}.") from None
    if not isinstance(value, dict):
        raise ParametersError(f"{subject} is no JSON object.")
    return value


class _Text(NamedTuple):
    """
    A text in a step, or what the table makes of one.

    :param path: the names of the members that lead to it.
    :param defaults: the parameters whose defaults are in it.
    """

    path: tuple[str, ...]
    text: str
    defaults: frozenset[str] = frozenset()


_Facts = dict[str, list[_Text]]


class _Steps:
    """The steps of a definition, by name, with those in other steps."""

    def __init__(self, definition: _Step, pipeline: str, role_arn: str | None) -> None:
        self.by_name = {str(step.get("Name")): step for step in _steps_in(definition)}
        self._values = {
            entry.get("Name"): entry.get("DefaultValue")
            for entry in _objects(definition.get("Parameters"))
        }
        self._pipeline = pipeline
        self._role_arn = role_arn
        self._defaults: set[str] = set()
        # In a definition that AWS would refuse, steps may refer to each other.
        self._open: set[str] = set()

    def facts(self, step: _Step) -> _Facts:
        """
        Return the facts of a step.

        :raises ParametersError: a text is not what it must be, or a job has no role.
        """
        members = list(self._texts(step))
        facts = {
            name: list(_matches(rule, members, step))
            for name, rule in _TABLE["facts"].items()
        }
        facts["job"] = [_Text((), self._job_name(step))]
        if not facts["role"] and step.get("Type") in _TABLE["with_role"]:
            if not self._role_arn:
                raise ParametersError(
                    f"{_name(step)} names no role for its job: name the role of the"
                    " pipeline, which the job has then."
                )
            facts["role"] = [_Text(("RoleArn",), self._role_arn)]
        return facts

    def roles(self, step: _Step) -> list[str]:
        """Return the roles of the job of a step, as far as the definition has them."""
        arguments = step.get("Arguments")
        if step.get("Type") == "Transform" and isinstance(arguments, dict):
            reference = arguments.get("ModelName")
            if isinstance(reference, dict):
                maker = str(reference.get("Get")).split(".")[1:2]
                step = self.by_name.get("".join(maker), step)
        return [fact.text for fact in self.facts(step)["role"]]

    def _texts(self, step: _Step) -> Iterator[_Text]:
        for path, value in _leaves(step, ()):
            self._defaults = set()
            text = self._text(value)
            if text.startswith(_ANY) and {*path} & {*_TABLE["uris"]}:
                text = f"s3://{text}"
            yield _Text(path, text, frozenset(self._defaults))

    def _text(self, value: Any) -> str:
        """Return a value as a pattern of IAM."""
        match value:
            case str():
                # With $, IAM would put in something else.
                return _TEMPLATE.sub(_ANY, value).replace("$", "?")
            case {"Get": str(reference)} if reference not in self._open:
                self._open.add(reference)
                text = self._referenced(reference)
                self._open.discard(reference)
                return text
            case {"Std:Join": {"On": str(separator), "Values": list(values)}}:
                return separator.join(map(self._text, values))
            case bool() | int() | float():
                return str(value)
        return _ANY

    def _referenced(self, reference: str) -> str:
        root, _, rest = reference.partition(".")
        name, _, path = rest.partition(".")
        if root == "Parameters" and self._values.get(rest) is not None:
            self._defaults.add(rest)
            return self._text(self._values[rest])
        if reference == "Execution.PipelineName":
            return self._pipeline
        if root != "Steps" or name not in self.by_name:
            return _ANY
        step = self.by_name[name]
        if path == _TABLE["names"].get(step.get("Type"), [None])[0]:
            return self._job_name(step)
        for file in _objects(step.get("PropertyFiles")):
            if path == f"PropertyFiles.{file.get('PropertyFileName')}":
                output = f"ProcessingOutputConfig.Outputs['{file.get('OutputName')}']"
                folder = self._property(step, f"{output}.S3Output.S3Uri")
                return f"{folder.rstrip('/')}/{self._text(file.get('FilePath'))}"
        folder = self._property(step, _TABLE["properties"].get(path, ""))
        if folder != _ANY:
            return f"{folder.rstrip('/')}/*"
        return self._property(step, path)

    def _property(self, step: _Step, path: str) -> str:
        """Return what a path leads to in the arguments of a step."""
        value = step.get("Arguments")
        for part in _PATH_PART.finditer(path):
            name = part[1] or part[2]
            if isinstance(value, dict):
                value = value.get(name)
            else:
                named = [each for each in _objects(value) if name in each.values()]
                value = named[0] if named else None
        return self._text(value)

    def _job_name(self, step: _Step) -> str:
        member, default = _TABLE["names"].get(step.get("Type"), ("", _ANY))
        prefix = self._property(step, member)
        return default if prefix == _ANY else _collapsed(f"{prefix}*")


def _steps_in(parent: Any, *members: str) -> Iterator[_Step]:
    for member in members or ("Steps",):
        for step in _objects(parent.get(member)):
            yield step
            yield from _steps_in(step.get("Arguments") or {}, *_INNER_STEPS)


def _objects(entries: Any) -> list[dict[str, Any]]:
    if not isinstance(entries, list):
        return []
    return [entry for entry in entries if isinstance(entry, dict)]


def _name(step: _Step) -> str:
    return f"Step {texts.clean_line(str(step.get('Name')))}"


def _collapsed(pattern: str) -> str:
    return re.sub(r"\*+", _ANY, pattern)


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """
    Yield the values of a step, with the names of the members that lead to them. What
    ``Std:JsonGet`` reads is one, without the others.
    """
    if isinstance(value, list):
        for entry in value:
            yield from _leaves(entry, path)
    elif not isinstance(value, dict) or "Get" in value:
        yield path, value
    elif "Std:JsonGet" in value:
        source = value["Std:JsonGet"]
        if isinstance(source, dict):
            yield ("Std:JsonGet",), source.get("PropertyFile") or source.get("S3Uri")
    elif "Std:Join" in value:
        yield path, value
        inner = _leaves([*value["Std:Join"].values()], ())
        yield from (leaf for leaf in inner if "Std:JsonGet" in leaf[0])
    else:
        for name, member in value.items():
            if name not in _INNER_STEPS:
                yield from _leaves(member, (*path, name))


def _matches(rule: _Step, members: list[_Text], step: _Step) -> Iterator[_Text]:
    """
    Yield what a fact of the table is in a step.

    :raises ParametersError: a text is not what it must be.
    """
    for member in members:
        path = {*member.path}
        if (
            "in" in rule
            and not path & {*rule["in"]}
            or path & {*rule.get("not_in", ())}
        ):
            continue
        found = list(re.finditer(rule.get("pattern", "(?s)^(.*)$"), member.text))
        for match in found:
            text = _collapsed(match.expand(rule.get("value", r"\1"))) or _ANY
            yield member._replace(text=text)
        if found:
            continue
        if "in" in rule and member.text == _ANY:
            yield member
        elif rule.get("required"):
            raise ParametersError(
                f"{_name(step)}: {member.path[-1]} = {texts.shorten(member.text)} is not"
                " valid."
            )


class _Policy:
    """The rights of all steps."""

    def __init__(self, **places: str) -> None:
        account = "arn:{partition}:sagemaker:{region}:{account}".format(**places)
        self._places = {**places, "sagemaker": account}
        self._statements: dict[str, dict[str, Any]] = {}
        self._resources: dict[str, set[str]] = {}
        self._unknown: dict[str, None] = {}
        self._defaults: set[str] = set()
        self._notes: list[str] = []
        self._runs_jobs = False

    def add(self, step: _Step, facts: _Facts, is_own: bool) -> None:
        """
        Add the rights of a step.

        :param is_own: whether its job may have the role of the pipeline.
        """
        kind = step.get("Type")
        if kind not in _TABLE["known_types"]:
            self._notes.append(
                f"{_name(step)}: what steps of type {texts.shorten(kind)} need is not"
                " known."
            )
        for right in _TABLE["rights"]:
            if kind not in right.get("of", [kind]) or not facts.get(
                right.get("with"), [0]
            ):
                continue
            if is_own or not right.get("own"):
                self._runs_jobs |= right.get("own", False)
                for resource in right["resources"]:
                    self._add_resource(right, resource, step, facts)

    def _add_resource(
        self, right: _Step, resource: str, step: _Step, facts: _Facts
    ) -> None:
        fields = [name for _, name, _, _ in Formatter().parse(resource)]
        fact = next((name for name in fields if name in facts), "")
        known = _TABLE["facts"].get(fact, {}).get("known", "[^*?]*")
        for value in facts.get(fact, [_Text((), "")]):
            arn = resource.format(**self._places, **{fact: value.text})
            self._resources.setdefault(right["sid"], set()).add(arn)
            self._defaults |= value.defaults
            if value.path and not re.fullmatch(known, value.text):
                self._unknown[f"{_name(step)}: {value.path[-1]}"] = None

    def needs(self, pipeline: str) -> RoleNeeds:
        """Return the role with the rights."""
        statements = []
        for right in _TABLE["rights"]:
            if right["sid"] in self._resources:
                statement = {
                    "Sid": right["sid"],
                    "Effect": "Allow",
                    "Action": right["actions"],
                    "Resource": sorted(self._resources[right["sid"]]),
                }
                if "passed_to" in right:
                    passed = {"iam:PassedToService": right["passed_to"]}
                    statement["Condition"] = {"StringEquals": passed}
                statements.append(statement)
        if self._defaults:
            names = ", ".join(map(texts.clean_line, sorted(self._defaults)))
            self._notes.append(f"Resources have the defaults of parameters: {names}.")
        role = {
            "AssumeRolePolicyDocument": _document([self._trust(pipeline)]),
            "Policies": [
                {"PolicyName": "pipeline", "PolicyDocument": _document(statements)}
            ],
        }
        return RoleNeeds(role, [*self._unknown], self._notes)

    def _trust(self, pipeline: str) -> dict[str, Any]:
        """
        Return who may assume the role: SageMaker, for the executions of the pipeline,
        and if jobs may have the role, for all of the account and region.

        https://docs.aws.amazon.com/sagemaker/latest/dg/security-confused-deputy-prevention.html
        """
        account = self._places["sagemaker"]
        arns = [f"{account}:*"]
        if not self._runs_jobs:
            named = models.pipeline_arns(f"{account}:pipeline/", pipeline)
            arns = [f"{arn}/*" for arn in named]
        return {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {"ArnLike": {"aws:SourceArn": arns}},
        }


def _document(statements: list[dict[str, Any]]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": statements}

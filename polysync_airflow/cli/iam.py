"""The command ``polysync iam``: it prints the documents of ``auth/iam_policies.py``, and needs no Airflow."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from polysync_airflow.auth.iam_policies import ISSUER_V1, ISSUER_V2, identity_policy, web_identity_trust
from polysync_airflow.cli.output import COMMANDS, OK, complete, write_result

_FORMS: Final = COMMANDS["iam"]["forms"]
_ANY: Final = {"pattern": "(?s).*", "may_have_wildcards": True}


def make_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Print the IAM documents that the provider needs."
    )
    complete(parser, "iam")
    return parser


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with an error if a value would allow more than it seems to, or an option lacks another."""
    for name, value in vars(options).items():
        option, form = f"--{name.replace('_', '-')}", _FORMS.get(name, _ANY)
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str):
                continue
            if not text.strip():
                parser.error(f"{option} is empty: give a value")
            if not options.allow_wildcards and ("*" in text or "?" in text):
                parser.error(
                    f"{option} {text!r} has a wildcard, which allows more than one: add --allow-wildcards"
                )
            is_wildcard = form["may_have_wildcards"] and options.allow_wildcards
            if not is_wildcard and not re.fullmatch(form["pattern"], text):
                parser.error(f"{option} {text!r} {form['problem']}")
    if options.document == "policy" and options.approve_models and not options.model_package_group:
        parser.error("--approve-models needs --model-package-group: name the groups")
    if options.document == "policy" and options.verify and not options.pass_role:
        parser.error("--verify needs --pass-role: name the role of the pipelines")


def _document(options: argparse.Namespace) -> Mapping[str, Any]:
    owner = {"account": options.account, "partition": options.partition}
    if options.document == "policy":
        return identity_policy(
            **owner,
            region=options.region,
            pipelines=options.pipeline,
            pass_roles=options.pass_role,
            property_files=options.property_files,
            model_package_groups=options.model_package_group,
            approve_models=options.approve_models,
            callback_queues=options.callback_queue,
            optional=not options.required_only,
            verify=options.verify,
        )
    issuer = ISSUER_V1 if options.entra_version == "v1" else ISSUER_V2
    return web_identity_trust(
        **owner,
        issuer=issuer.format(tenant=options.tenant),
        audience=options.audience,
        subject=options.subject,
    )


def main(arguments: Sequence[str], prog: str) -> int:
    """Print the document that the arguments name, and return the exit code."""
    parser = make_parser(prog)
    options = parser.parse_args(arguments)
    _check(parser, options)
    write_result(json.dumps(_document(options), indent=2) + "\n")
    return OK

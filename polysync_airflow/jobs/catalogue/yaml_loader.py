"""Reads the YAML of catalogue files: PyYAML's safe loader, without what it accepts in silence."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import yaml
from yaml.constructor import ConstructorError

from polysync_airflow.execution.texts import shorten

# AWS's values have at most 1,024 characters. PyYAML needs time that grows with the square of the length for
# numbers to the base 60 (1:30:00), and Python writes no integer of more than 4,300 digits.
MAX_NUMBER_LENGTH: Final = 1024
_NUMBERS: Final = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
# libyaml reads a file of 500 jobs in a tenth of the time. PyYAML's wheels have it.
_SAFE_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class CatalogueLoader(_SAFE_LOADER):  # type: ignore[misc] # the class depends on the host
    """A safe loader that refuses duplicate keys, huge numbers, and values that do not fit their tags."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """
        Return the value of a node.

        :raises ConstructorError: the node has no such value.
        """
        if node.tag in _NUMBERS and len(node.value) > MAX_NUMBER_LENGTH:
            raise _refused(
                node, f"the number has more than {MAX_NUMBER_LENGTH:,} characters: write it as a text"
            )
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, ValueError):
            # PyYAML does not check the text of a value with a tag, such as `!!timestamp x`.
            raise _refused(
                node, f"{shorten(node.value)} is no value of the tag {shorten(node.tag)}"
            ) from None

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """
        Return the value of a mapping.

        :raises ConstructorError: a key is there twice.
        """
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            (key, _), *_ = Counter(str(key.value) for key, _ in node.value).most_common(1)
            raise _refused(node, f"the key {shorten(key)} is there twice: remove one")
        return mapping


def _refused(node: Any, problem: str) -> ConstructorError:
    return ConstructorError(None, None, problem, node.start_mark)

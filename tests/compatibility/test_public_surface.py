"""What users see of the package changes only on purpose."""

from __future__ import annotations

import difflib
import sys

import pytest

from tests.compatibility.public_surface import GOLDEN, surface


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11),
    reason="later versions of Python write signatures and help otherwise",
)
def test_what_users_see_is_what_the_file_says() -> None:
    """
    After a change on purpose: ``python -m tests.compatibility.public_surface``, and
    read the difference.
    """
    before, now = GOLDEN.read_text().splitlines(), surface().splitlines()

    assert (
        "\n".join(
            difflib.unified_diff(
                before, now, "public_surface.txt", "now", lineterm="", n=0
            )
        )
        == ""
    )

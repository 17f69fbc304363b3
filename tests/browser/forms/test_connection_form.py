"""The form of a new connection, in the browser."""

from __future__ import annotations

import pytest

from tests.browser.airflow_site import Site
from tests.browser.tab_page import TabPage
from tests.conftest import NEEDS_TABS

pytestmark = [pytest.mark.system, NEEDS_TABS]


def test_form_begins_with_the_recommended_sign_in(site: Site, page: TabPage) -> None:
    """
    The form selects Web Identity, the field of the access key says so, and its section
    is before the others.
    """
    page.page.goto(f"{site.url}connections")
    page.page.get_by_role("button", name="Add Connection").click()
    form = page.page.get_by_role("dialog")
    form.get_by_role("combobox").last.fill("Polysync")
    page.page.get_by_role("option", name="Polysync SageMaker", exact=True).click()
    form.get_by_placeholder(
        "Empty for Web Identity (recommended): see Extra Fields below"
    ).wait_for()
    sections = [
        text.strip()
        for text in form.locator("[data-part=item-trigger]").all_inner_texts()
    ]
    form.get_by_text("Extra Fields", exact=True).click()
    form.get_by_text("Web Identity (recommended)", exact=True).wait_for()

    assert sections == [
        "Standard Fields",
        "Extra Fields",
        "Web Identity",
        "Other methods",
        "Options",
        "Extra Fields JSON",
    ]

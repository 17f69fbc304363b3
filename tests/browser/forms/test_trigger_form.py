"""
What a person can choose in the form under "Trigger" of an imported job, in a browser,
in a real Airflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.airflow_site import Site
from tests.browser.tab_page import TabPage
from tests.conftest import NEEDS_TABS

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = [pytest.mark.system, NEEDS_TABS]


def open_form(site: Site, page: TabPage) -> Locator:
    """Open the form of the job."""
    page.page.goto(f"{site.url}dags/scoring")
    page.page.get_by_role("button", name="Trigger").first.click()
    form = page.page.locator("[role=dialog][data-state=open]")
    form.get_by_text("Overwrite").first.wait_for()
    return form


@pytest.mark.parametrize("choice", ["false", "true"])
def test_boolean_without_default_must_be_chosen(
    site: Site, page: TabPage, choice: str
) -> None:
    """
    It is a drop-down, so that false can be chosen, too. A Boolean with a default is a
    switch.
    """
    form = open_form(site, page)
    trigger = form.get_by_role("button", name="Trigger")
    assert trigger.is_disabled()
    assert form.locator("input[type=checkbox][name=element_DryRun]").count() == 1

    form.locator("[id*=element_Overwrite]").get_by_role("combobox").first.click()
    page.page.get_by_role("option", name=choice, exact=True).click()
    assert form.get_by_text("This field is required").count() == 0
    trigger.click()
    form.wait_for(state="hidden")

    assert site.last_conf("scoring") == {"Overwrite": choice, "DryRun": False}

"""
The provider information that Airflow reads: modules, connection type, form fields and
config options.

It is in ``provider_info.json``. In the form, the fields of a section are under its
title, and before them those without one. The UI always shows login and password first.
"""

import json
from pathlib import Path
from typing import Any

DEFAULT_CONNECTION = "polysync_default"

# The config options (section, name) that say what a connection may name. The default of
# the folders is narrow: other folders beside these contain tokens, such as the API
# token of the cluster, and users who may edit connections must not be able to send
# those to another host.
CONFIG_SECTION = "polysync_sagemaker"
ALLOWED_IDENTITY_FOLDERS = (CONFIG_SECTION, "allowed_identity_folders")
ALLOWED_ENDPOINT_HOSTS = (CONFIG_SECTION, "allowed_endpoint_hosts")
ALLOWED_APPLICATIONS = (CONFIG_SECTION, "allowed_applications")
HOURLY_PRICES = (CONFIG_SECTION, "hourly_prices")
MAX_COST = (CONFIG_SECTION, "max_cost")
# The name of this deployment, in place of an identity that it gives itself.
DEPLOYMENT = (CONFIG_SECTION, "deployment")
# How many triggerers share what AWS and Airflow allow all of them together.
TRIGGERERS = (CONFIG_SECTION, "triggerers")


def get_provider_info() -> dict[str, Any]:
    """
    Return the provider information for Airflow's ProvidersManager.

    ``package-name`` must be the name of the distribution; otherwise Airflow refuses the
    provider. The format is Airflow's ``provider_info.schema.json``.
    """
    info: dict[str, Any] = json.loads(
        Path(__file__).with_name("provider_info.json").read_bytes()
    )
    return info

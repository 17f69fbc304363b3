"""Owns what botocore's debug log must not show: the keys and tokens that come and go on the wire."""

from __future__ import annotations

import logging
import re
from typing import Final

# Where botocore writes out requests and answers at DEBUG.
LOGGERS: Final = (
    "botocore.auth",
    "botocore.credentials",
    "botocore.endpoint",
    "botocore.hooks",
    "botocore.httpchecksum",
    "botocore.parsers",
    "botocore.utils",
    "urllib3.connectionpool",
)
_SECRETS: Final = re.compile(
    r"""(?ix)
    (   security-token ['"]? \s* [:=,] \s* (?:b?['"])?        # header, canonical request
      | <(?:SecretAccessKey|SessionToken)>                    # STS's answer
      | ['"](?:SecretAccessKey|SessionToken|Token|WebIdentityToken)['"] \s* : \s* (?:b?['"])
      | WebIdentityToken=                                     # a form
    )
    [^\s'"<&,;)]+
    """
)
_REDACTED: Final = r"\1***"


class BotocoreLogFilter(logging.Filter):
    """Puts ``***`` in the place of keys and tokens in a log line."""

    def filter(self, record: logging.LogRecord) -> bool:
        """
        Redact a record.

        :param record: the record, changed if it shows a secret.
        :return: True: every record is kept.
        """
        said = record.getMessage()
        shown = _SECRETS.sub(_REDACTED, said)
        if shown != said:
            record.msg, record.args = shown, ()
        return True


_FILTER: Final = BotocoreLogFilter()


def redact_botocore_logs() -> None:
    """Redact what botocore logs from now on, in this process. Any number of calls is one."""
    for name in LOGGERS:
        # addFilter adds the same filter once.
        logging.getLogger(name).addFilter(_FILTER)

"""Takes credentials out of text that is about to be stored where others read it."""

import os
import re
from collections.abc import Mapping

HIDDEN = "***"

_USER_INFO = re.compile(r"""(?<=://)(?:[^\s"']*:[^\s"']*|[^\s"'/@]+)@""")
"""`user:password@` or `token@` of a URI; a password may hold slashes, as AWS secrets do, or @."""

_SECRET_NAME = (
    r"(?:[a-z0-9_-]*[_-])?(?:password|passwd|pwd|secret|token|credentials?|signature|"
    r"api[_-]?key|access[_-]?key(?:[_-]?id)?|private[_-]?key)"
)
_SECRET_KEY = re.compile(_SECRET_NAME, re.IGNORECASE)
_QUERY_VALUE = re.compile(rf"(?<=[?&])({_SECRET_NAME})=[^&\s]+", re.IGNORECASE)

_WORKING_DIRECTORY = "PWD"
"""Every shell's; not a password."""
_SHORTEST_SECRET = 12
"""A shorter value of an environment variable would also be found inside harmless words."""


def redact(text: str) -> str:
    """Hide credentials inside a text.

    These are user names and passwords of URIs, credential parameters of queries, and values of
    this process's environment variables whose name says that they are secret.
    """
    for secret in _environment_secrets():
        text = text.replace(secret, HIDDEN)
    text = _USER_INFO.sub(f"{HIDDEN}@", text)
    return _QUERY_VALUE.sub(rf"\1={HIDDEN}", text)


def redact_values(values: Mapping[str, str]) -> dict[str, str]:
    """Redact each value, and hide it whole where its key names a credential.

    The last part of a dotted key counts: `storage.secret_access_key`.
    """
    return {
        key: HIDDEN if value and is_secret_name(key) else redact(value)
        for key, value in values.items()
    }


def is_secret_name(key: str) -> bool:
    """Whether the last part of a dotted or slashed key names a credential."""
    return _SECRET_KEY.fullmatch(re.split(r"[./]", key)[-1]) is not None


def _environment_secrets() -> list[str]:
    """Longest first, so that no secret survives because a part of it was replaced before."""
    named = ((name, value) for name, value in os.environ.items() if name != _WORKING_DIRECTORY)
    values = {value for name, value in named if is_secret_name(name)}
    return sorted((v for v in values if len(v) >= _SHORTEST_SECRET), key=len, reverse=True)

"""Takes credentials out of text that is about to be stored where others read it."""

import base64
import json
import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "***"

_USER_INFO = re.compile(r"""(?<=://)(?:[^\s"']*:[^\s"']*|[^\s"'/@]+)@""")
"""`user:password@` or `token@` of a URI; a password may hold slashes, as AWS secrets do, or @."""

_CREDENTIAL_NAME = (
    r"(?:[a-z0-9_-]*(?:password|passwd)|(?:[a-z0-9_-]*[_-])?(?:pwd|secret|token|credentials?|"
    r"signature|api[_-]?key|access[_-]?key(?:[_-]?id)?|private[_-]?key))"
)
"""PGPASSWORD has no word of its own for it, OLDPWD is a folder."""
_CREDENTIAL_KEY = re.compile(_CREDENTIAL_NAME, re.IGNORECASE)
_QUERY_VALUE = re.compile(rf"(?<=[?&])({_CREDENTIAL_NAME})=[^&\s]+", re.IGNORECASE)

_WORKING_DIRECTORY = "PWD"
"""Every shell's; not a password."""
_SHORTEST_SECRET = 12
"""A shorter value of an environment variable would also be found inside harmless words."""
_PASSWORD = re.compile(r"""://[^\s"']*?:([^\s"']+)@""")
"""Of a URI: MLFLOW_TRACKING_URI, MONO3D_SEARCHES and proxies may hold one."""


def redact(text: str) -> str:
    """Hide credentials inside a text.

    These are user names and passwords of URIs, credential parameters of queries, and values of
    this process's environment variables whose name says that they are secret, with the passwords
    of URIs in others; as they are, and as URLs, JSON and base64 write them.
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
    return _CREDENTIAL_KEY.fullmatch(re.split(r"[./]", key)[-1]) is not None


def _environment_secrets() -> list[str]:
    """Longest first, so that no secret survives because a part of it was replaced before."""
    values = {value for value in _named_secrets() if len(value) >= _SHORTEST_SECRET}
    return sorted((form for value in values for form in _forms(value)), key=len, reverse=True)


def _named_secrets() -> Iterator[str]:
    for name, value in os.environ.items():
        if name != _WORKING_DIRECTORY and is_secret_name(name):
            yield value
        for password in _PASSWORD.findall(value):
            yield password
            yield unquote(password)


def _forms(secret: str) -> set[str]:
    """A secret as libraries may write it; base64 where it stands alone, as in a header."""
    encoded = base64.b64encode(secret.encode(errors="surrogateescape")).decode()
    return {
        secret,
        quote(secret, safe="", errors="replace"),
        quote_plus(secret, errors="replace"),
        json.dumps(secret)[1:-1],
        encoded.rstrip("="),
    }

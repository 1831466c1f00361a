"""Why a call to an object store failed and what to do about it, in one line without secrets."""

from urllib.parse import urlsplit

_START = "start the store (`mono3d services up`) or correct AWS_ENDPOINT_URL"
_KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a pair that this store knows"
_BUCKET = "create the bucket or correct its name"
_GRANT = "use credentials that may do this (read-only ones cannot write)"
_CLOCK = "set this machine's clock"
_ROOM = "look at the store's log and its free disk space, then try again"

_UNREACHABLE = ("nobody answers there", _START)
_WRONG_KEYS = ("the credentials are not accepted", _KEYS)
_STORE_FAILED = ("the store itself failed", _ROOM)

# Keys are S3 error codes, and class names of botocore's own errors where there was no answer.
_REASONS = {
    "EndpointConnectionError": _UNREACHABLE,
    "ConnectTimeoutError": _UNREACHABLE,
    "ProxyConnectionError": (
        "the proxy does not answer",
        "correct HTTP_PROXY or add the host to NO_PROXY",
    ),
    "ConnectionClosedError": ("the connection was cut", _START),
    "IncompleteReadError": ("the connection was cut", _START),
    "ResponseStreamingError": ("the connection was cut", _START),
    "FlexibleChecksumError": (
        "what came is not what is stored",
        "try again, and check the network",
    ),
    "ReadTimeoutError": ("no answer in time", _START),
    "RetriesExceededError": ("no answer in time", _START),
    "SSLError": (
        "the TLS handshake failed",
        "correct AWS_ENDPOINT_URL (http or https) or AWS_CA_BUNDLE",
    ),
    "NoCredentialsError": ("there are no credentials", _KEYS),
    "PartialCredentialsError": ("half of the credentials is missing", _KEYS),
    "SignatureDoesNotMatch": _WRONG_KEYS,
    "InvalidAccessKeyId": _WRONG_KEYS,
    "InvalidToken": _WRONG_KEYS,
    "ExpiredToken": ("the credentials have expired", _KEYS),
    "RequestTimeTooSkewed": ("the clocks differ by too much", _CLOCK),
    "AccessDenied": ("access denied", _GRANT),
    "403": ("access denied", _GRANT),
    "NoSuchBucket": ("the bucket does not exist", _BUCKET),
    "InvalidBucketName": ("the store does not accept this bucket name", _BUCKET),
    "BucketAlreadyExists": ("the bucket belongs to someone else", "choose another bucket name"),
    "NoSuchKey": ("there is no such object", "correct the path"),
    "InternalError": _STORE_FAILED,
    "ServiceUnavailable": _STORE_FAILED,
    "SlowDown": _STORE_FAILED,
    "ResponseParserError": ("what answers is not an S3 store", _START),
}

_PASSING = (_UNREACHABLE, _STORE_FAILED)
_PASSING_REASONS = {"the connection was cut", "no answer in time"}
_PASSING_CODES = {"500", "502", "503", "504", "429", "RequestTimeout", "TooManyRequests"}


def is_passing(code: str) -> bool:
    """Whether the same call may succeed later although nobody has changed anything."""
    known = _REASONS.get(code, ("", ""))
    return code in _PASSING_CODES or known in _PASSING or known[0] in _PASSING_REASONS


def explain(code: str, *, action: str, target: str, endpoint: str) -> str:
    """One line: what was tried, where, why it failed, and the remedy.

    Args:
        code: S3 error code, HTTP status, or class name of the client library's error.
        action: A verb, such as "write".
        target: The URI it was tried on.
        endpoint: The store's URL; user and password in it are dropped.

    Returns:
        The line, without a full stop.
    """
    if code in _REASONS:
        reason, remedy = _REASONS[code]
    elif code in _PASSING_CODES:
        reason, remedy = _STORE_FAILED
    elif code.isdigit():
        reason, remedy = f"the answer, HTTP {code}, is not one of an S3 store", _START
    else:
        reason, remedy = f"the store answered {code}", "look at its log"
    return f"cannot {action} {target} at {without_userinfo(endpoint)}: {reason}; {remedy}"


def without_userinfo(url: str) -> str:
    """The URL without `user:password@`, fit for a message."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

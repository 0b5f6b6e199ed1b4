"""What a failed request means: one table, from the client library's errors to those of `errors.py`.

While the worker runs, nothing that a server says about credentials or buckets is final: it is waited out, as an outage
is.  At the start the same answers name the setting that is wrong.  What is not in here is a bug, and stays as it is.
"""

from collections.abc import Mapping
from typing import Any

from aiohttp import ClientError as HttpError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from worker.adapters.http import retry_after_seconds
from worker.errors import Conflict, Misconfigured, OutcomeUnknown, Transient, Unavailable, WorkerError
from worker.settings import S3Settings


class NotTheServer(Exception):
    """A success that is not one: the answer (a proxy's page) lacks what every S3 server sends."""


LOST = (BotoCoreError, HttpError, ResponseParserError, NotTheServer, TimeoutError, OSError)
"""No answer, or none that can be understood; `BotoCoreError` includes what finds and renews credentials."""

THROTTLED = frozenset({"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "ServiceUnavailable"})
CREDENTIALS = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId"})
PASSING = frozenset({"NoSuchBucket", "AuthorizationHeaderMalformed", "RequestTimeout", "OperationAborted"})
"""Not final, although their status says that the request was wrong."""
KEYS = "kms."
"""What the codes of a key begin with that is disabled, missing or throttled, in lower case: somebody may mend it."""


class Undecided(OutcomeUnknown):
    """409: several write at once and the server chose none of them; nothing was written, so it may be sent again."""


def status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def is_missing(error: ClientError) -> bool:
    """No such object; a bare 404, as a proxy gives it while a server is away, does not say so."""
    return status(error) == 404 and code(error) == "NoSuchKey"


def translated(error: Exception, what: str, *, writes: bool) -> WorkerError | None:
    """What it means for the request named `what`; None: a bug, to be raised as it is."""
    if isinstance(error, ParamValidationError):
        return None
    if isinstance(error, ClientError):
        return _answered(error, what, writes=writes)
    text = f"{what}: no answer ({type(error).__name__})"
    return OutcomeUnknown(text) if writes else Unavailable(text)


def _answered(error: ClientError, what: str, *, writes: bool) -> WorkerError | None:
    number, name = status(error), code(error)
    text = f"{what}: HTTP {number} {name}"
    if writes and (number == 412 or is_missing(error)):
        return Conflict(text)
    if number == 409:
        return Undecided(text) if writes else Unavailable(text)
    if number in (429, 503) or name in THROTTLED:
        return Unavailable(text, retry_after_seconds=_retry_after_seconds(error))
    if number in (301, 307, 401, 403, 404, 408) or name in CREDENTIALS | PASSING or name.lower().startswith(KEYS):
        return Unavailable(text)
    if number >= 500 and number != 501:  # it broke while it worked: who writes cannot know how far it came
        return OutcomeUnknown(text) if writes else Unavailable(text, retry_after_seconds=_retry_after_seconds(error))
    return None


def _retry_after_seconds(error: ClientError) -> float | None:
    headers: Mapping[str, Any] = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return retry_after_seconds(headers.get("retry-after"), headers.get("date"))


# ------------------------------------------------------------------------------ at the start

SETTING_BY_CODE = {
    "NoSuchBucket": ("BUCKET", "there is no such bucket"),
    "InvalidBucketName": ("BUCKET", "the server takes no such name"),
    "InvalidAccessKeyId": ("ACCESS_KEY", "the server does not know it"),
    "XAdminUserNotFound": ("ACCESS_KEY", "the server does not know it"),  # versitygw's word
    "SignatureDoesNotMatch": ("SECRET_KEY", "the server refuses signatures made with it"),
    "ExpiredToken": ("ACCESS_KEY", "the credential has expired"),
    "InvalidToken": ("ACCESS_KEY", "the server refuses the credential's token"),
    "AuthorizationHeaderMalformed": ("REGION", "the server has another region"),
    "PermanentRedirect": ("REGION", "the bucket is in another region"),
    "KMS.NotFoundException": ("ENCRYPTION_KEY_ID", "there is no such key"),
    "KMS.DisabledException": ("ENCRYPTION_KEY_ID", "the key is disabled"),
    "kms:KeyNotFound": ("ENCRYPTION_KEY_ID", "there is no such key"),  # MinIO's word
}


NO_TLS = "WRONG_VERSION_NUMBER"
"""What OpenSSL says of a server that answers in the clear."""


def at_start(error: BaseException, settings: S3Settings) -> WorkerError | None:
    """The same failure while the store is opened: one line that names the setting to look at.

    None: it says so itself, or is a bug.
    """
    if not isinstance(error, ClientError | Transient | Conflict):
        return None
    cause = error if isinstance(error, ClientError) else error.__cause__
    match cause:
        case NoCredentialsError():
            return Misconfigured("WORKER_S3__ACCESS_KEY: not set, and the default chain finds no credential")
        case SSLError() if NO_TLS in str(cause):
            return Misconfigured(f"WORKER_S3__ENDPOINT_URL: {settings.endpoint_url} speaks no TLS; is it http://?")
        case SSLError():
            return Misconfigured("WORKER_S3__CA_FILE: none of these authorities vouches for the server's certificate")
        case ClientError() if code(cause) in SETTING_BY_CODE:
            name, why = SETTING_BY_CODE[code(cause)]
            return Misconfigured(f"WORKER_S3__{name}: {why} (HTTP {status(cause)} {code(cause)})")
        case ClientError() if status(cause) in (401, 403):
            return Misconfigured(f"WORKER_S3__BUCKET: the credential does not suffice ({error})")
        case ClientError() if status(cause) not in (429, 503) and isinstance(error, ClientError):
            name = "ENDPOINT_URL" if settings.encryption == "none" else "ENCRYPTION"
            return Misconfigured(f"WORKER_S3__{name}: the server cannot do what is needed ({cause})")
        case _:
            where = settings.endpoint_url or f"AWS in {settings.region}"
            return Unavailable(f"WORKER_S3__ENDPOINT_URL: {where} is away ({error})")

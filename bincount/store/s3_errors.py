"""Errors of boto3 and obstore, translated into those of `bincount.errors`."""

from __future__ import annotations

import re

from bincount.errors import BincountError, ConfigError, StoreError
from bincount.settings import without_passwords

# Codes of a server that is busy (docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html).
_LATER = frozenset({"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "OperationAborted"})
_DENIED = (401, 403, 407)  # 407: by a proxy
_STATUS = re.compile(r"status code: (\d{3})")
# Of MinIO, of Ceph, and of HTTP; AWS has no quota.
_FULL = re.compile(r"StorageFull|QuotaExceeded|status code: 507")
# The address answers, but not as an S3 server.
_NO_SERVER = frozenset({"ProxyConnectionError", "ResponseParserError"})


def translate(error: Exception, source: str, endpoint: str | None, *, written: bool = False) -> BincountError:
    """Translates what a request raised.

    Args:
        error: Any exception of a call to boto3 or obstore.
        source: The bucket, for the message.
        endpoint: The server's address where it is not AWS.
        written: Whether the bucket is written to as well as read.

    Returns:
        StoreError if a retry may help, else ConfigError. An exception of
        neither library is raised as it is.
    """
    from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
    from botocore.parsers import ResponseParserError
    from obstore.exceptions import BaseError, InvalidPathError

    where = without_passwords(f"{source} at {endpoint}" if endpoint else source)
    if isinstance(error, ClientError):
        return _translate_answer(error, where)
    if isinstance(error, ParamValidationError) or (isinstance(error, ValueError) and "endpoint" in str(error)):
        return ConfigError(f"{where}: name and endpoint must be valid, got {_line(error)!r}. Correct them.")
    if written and _FULL.search(str(error)):
        return ConfigError(
            f"{where}: must have room, got {retry_cause(error)}. "
            "Free some room or raise its quota, then run again; what was finished is kept."
        )
    if is_denied(error) and written:
        return ConfigError(
            f"{where}: must be readable and writable, got access denied ({retry_cause(error)}). Give the credentials "
            "the right to list, get, put and delete there, then run again; what was finished is kept."
        )
    if is_denied(error):
        return ConfigError(
            f"{where}: must be listable, got access denied ({retry_cause(error)}). "
            "Check the credentials, or name bins by --ids."
        )
    if isinstance(error, InvalidPathError) or not isinstance(error, BotoCoreError | BaseError | ResponseParserError):
        raise error
    name = type(error).__name__
    if "Credential" in name or "Profile" in name or "ConfigNotFound" in name:
        return ConfigError(f"{where}: credentials must be complete, got {_line(error)!r}. Complete or remove them.")
    if name == "SSLError":
        return ConfigError(
            f"{where}: its certificate must be trusted, got {_line(error)!r}. "
            "Name the certificate authority in AWS_CA_BUNDLE, or as ca_bundle in the AWS configuration."
        )
    if name in _NO_SERVER:
        return ConfigError(f"{where}: must be the address of an S3 server, got {_line(error)!r}. Check the endpoint.")
    # An unknown host name too: that of a container goes and comes with it.
    return StoreError(
        f"{where}: must answer, got {_line(error)!r}. Check the endpoint and the network; if they are right, run again."
    )


def _translate_answer(error: Exception, where: str) -> BincountError:
    answer = getattr(error, "response", {})
    code = str(answer.get("Error", {}).get("Code", ""))
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _LATER or status >= 500 or status == 429:
        return StoreError(f"{where}: must answer, got {code or status}. Run again later.")
    if code == "NoSuchBucket":
        return ConfigError(f"{where}: the bucket must exist, got NoSuchBucket. Check its name and the endpoint.")
    if status in _DENIED:
        said = f"{status} {code}" if code not in ("", str(status)) else status
        return ConfigError(
            f"{where}: must be readable, got access denied ({said}). "
            "Check the credentials; a public bucket is read without any."
        )
    if status in (301, 307, 400):
        return ConfigError(f"{where}: must accept the request, got {code} ({status}). Check region and credentials.")
    return ConfigError(f"{where}: must be an S3 server, got status {status} ({code}). Check the endpoint.")


def is_denied(error: Exception) -> bool:
    """True if obstore was denied access to an object or a listing; of a listing its message alone tells."""
    found = _STATUS.search(str(error))
    return found is not None and int(found[1]) in _DENIED


def retry_cause(error: Exception) -> str:
    """The cause of a failed request in short, for the counts of retries; obstore has it in its message only."""
    text = str(error)
    status = _STATUS.search(text) or re.search(r"\((\d{3})\)", text)
    code = re.search(r"<Code>(\w+)</Code>", text) or re.search(r"An error occurred \((\w+)\)", text)
    if status or code:
        return " ".join(match[1] for match in (status, code) if match)
    if "Timeout" in text or "timed out" in text or "Timeout" in type(error).__name__:
        return "no answer in time"
    if "kind: Connect" in text or "Connect" in type(error).__name__:
        return "no connection"
    if "IncompleteBody" in text or "kind: Interrupted" in text:
        return "cut short"
    return "connection lost"


def _line(error: Exception) -> str:
    return without_passwords(str(error).strip().split("\n", 1)[0])[:200]

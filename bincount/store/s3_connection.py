"""The two clients of a bucket: boto3 finds it, obstore reads from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import obstore.store

_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S, _REQUEST_TIMEOUT_S = 4, 6, 60


@dataclass(frozen=True)
class Connection:
    """Both clients of one bucket; neither asks again by itself, `Patience` decides and counts.

    Attributes:
        client: boto3's.
        bulk: obstore's.
    """

    client: Any
    bulk: obstore.store.S3Store


def connect(bucket: str, endpoint: str | None) -> Connection:
    """Finds a bucket and opens both clients; anonymously where there are no credentials.

    Args:
        bucket: Its name.
        endpoint: Address of its server; None for what AWS_ENDPOINT_URL_S3 says, or AWS itself.

    Raises:
        Exception: What boto3 raises if the bucket is absent, denied or does not answer.
    """
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import S3Store

    session = boto3.session.Session()
    is_anonymous = session.get_credentials() is None
    client = session.client(
        "s3",
        region_name=session.region_name or "us-east-1",
        endpoint_url=endpoint,
        config=Config(
            connect_timeout=_CONNECT_TIMEOUT_S,
            read_timeout=_READ_TIMEOUT_S,
            retries={"total_max_attempts": 1},
            **({"signature_version": UNSIGNED} if is_anonymous else {}),
        ),
    )
    region = ask_region(client, bucket)
    address = client.meta.endpoint_url
    options: dict[str, Any] = {"region": region, "skip_signature": is_anonymous}
    if ".amazonaws.com" not in address:
        options["endpoint"] = address
    if not is_anonymous:
        options["credential_provider"] = Boto3CredentialProvider(session)
    bulk = S3Store(
        bucket,
        client_options={
            "allow_http": address.startswith("http://"),
            "connect_timeout": timedelta(seconds=_CONNECT_TIMEOUT_S),
            "read_timeout": timedelta(seconds=_READ_TIMEOUT_S),
            "timeout": timedelta(seconds=_REQUEST_TIMEOUT_S),
        },
        retry_config={"max_retries": 0},
        **options,
    )
    return Connection(client, bulk)


def ask_region(client: Any, bucket: str) -> str:
    """Asks a bucket for its region, and so whether it is there and answers.

    Raises:
        Exception: What boto3 raises, but for a bucket that may be read and not
            listed: there the first object will tell.
    """
    from botocore.exceptions import ClientError
    from botocore.parsers import ResponseParserError

    try:
        answer = client.list_objects_v2(Bucket=bucket, MaxKeys=1)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "AccessDenied":
            raise
        answer = error.response
    else:
        if "Name" not in answer:  # a web page parses as an empty listing
            raise ResponseParserError("no listing of a bucket")
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    return headers.get("x-amz-bucket-region") or client.meta.region_name

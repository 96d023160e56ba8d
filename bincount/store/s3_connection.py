"""The two clients of a bucket: boto3 resolves how to reach it, obstore reads from it in bulk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bincount.errors import ConfigError

if TYPE_CHECKING:
    import obstore.store
    from obstore.store import ClientConfig

_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S, _REQUEST_TIMEOUT_S = 4, 6, 60
# Of files of the workspace, up to gigabytes: obstore's read timeout runs while a part of 64 MB is sent, too.
_FILE_READ_TIMEOUT_S, _FILE_REQUEST_TIMEOUT_S = 60, 6 * 3600

# docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_NAME_RULES = (
    (r".{3,63}", "3 to 63 characters"),
    (r"[a-z0-9.-]+", "only lower-case letters, digits, dots and hyphens"),
    (r"[a-z0-9].*[a-z0-9]", "a letter or digit at its start and end"),
    (r"(?!.*\.\.).*", "no two dots in a row"),
    (r"(?!\d+\.\d+\.\d+\.\d+$).*", "another form than an IP address"),
    (r"(?!xn--|sthree-|amzn-s3-demo-).*(?<!-s3alias)(?<!--ol-s3)(?<!\.mrap)", "no prefix or suffix that S3 reserves"),
)


def check_bucket_name(name: str) -> None:
    """Checks a bucket's name against S3's rules.

    Raises:
        ConfigError: If it breaks one; the message says which.

    Example:
        >>> check_bucket_name("aft-vbi-pds")
    """
    for pattern, rule in _NAME_RULES:
        if not re.fullmatch(pattern, name):
            raise ConfigError(f"source: a bucket's name must have {rule}, got {name!r}.")


@dataclass(frozen=True)
class Connection:
    """The clients of one bucket. None retries by itself: `RetryPolicy` does.

    Attributes:
        client: boto3's.
        bulk: obstore's, for objects as small as photos.
        files: obstore's, for large ones.
    """

    client: Any
    bulk: obstore.store.S3Store
    files: obstore.store.S3Store


def connect(bucket: str, endpoint: str | None) -> Connection:
    """Opens both clients; without credentials, anonymously.

    obstore is told what boto3 resolved: endpoint, addressing style, region,
    certificate authority, proxy and credentials, from the environment or a
    profile. So whatever boto3 reaches, obstore reaches in the same way.

    Args:
        bucket: Its name.
        endpoint: Address of its server; None for boto3's own, such as AWS_ENDPOINT_URL_S3 or AWS itself.

    Raises:
        Exception: What boto3 raises if the bucket is absent, denied or does not answer.
    """
    import boto3
    import botocore.session
    from botocore import UNSIGNED
    from botocore.config import Config

    core = botocore.session.Session()
    session = boto3.session.Session(botocore_session=core)
    is_anonymous = session.get_credentials() is None

    def client_in(region: str) -> Any:
        return session.client(
            "s3",
            region_name=region,
            endpoint_url=endpoint,
            config=Config(
                connect_timeout=_CONNECT_TIMEOUT_S,
                read_timeout=_READ_TIMEOUT_S,
                retries={"total_max_attempts": 1},
                **({"signature_version": UNSIGNED} if is_anonymous else {}),
            ),
        )

    client = client_in(session.region_name or "us-east-1")
    region = ask_region(client, bucket)
    if region != client.meta.region_name:
        client = client_in(region)
    bulk, files = (
        bulk_client(client, core, bucket, is_anonymous=is_anonymous, read_timeout_s=read_s, request_timeout_s=request_s)
        for read_s, request_s in (
            (_READ_TIMEOUT_S, _REQUEST_TIMEOUT_S),
            (_FILE_READ_TIMEOUT_S, _FILE_REQUEST_TIMEOUT_S),
        )
    )
    return Connection(client, bulk, files)


def bulk_client(
    client: Any,
    core: Any,
    bucket: str,
    *,
    is_anonymous: bool,
    read_timeout_s: float = _READ_TIMEOUT_S,
    request_timeout_s: float = _REQUEST_TIMEOUT_S,
) -> obstore.store.S3Store:
    """An obstore client that reaches a bucket as a boto3 client does.

    Args:
        client: boto3's client, in the bucket's region.
        core: Its botocore session.
        bucket: The bucket's name.
        is_anonymous: Whether requests are not signed.
        read_timeout_s: How long nothing may come, or a part may take to be sent.
        request_timeout_s: How long a request may take with its answer.
    """
    import boto3
    from botocore.utils import get_environ_proxies
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import S3Store

    address, is_virtual_hosted = _resolved(client, bucket)
    options: dict[str, Any] = {
        "region": client.meta.region_name,
        "endpoint": address,
        "virtual_hosted_style_request": is_virtual_hosted,
        "skip_signature": is_anonymous,
    }
    if not is_anonymous:
        options["credential_provider"] = Boto3CredentialProvider(boto3.session.Session(botocore_session=core))
    client_options: ClientConfig = {
        "allow_http": address.startswith("http://"),
        "connect_timeout": timedelta(seconds=_CONNECT_TIMEOUT_S),
        "read_timeout": timedelta(seconds=read_timeout_s),
        "timeout": timedelta(seconds=request_timeout_s),
    }
    authority = core.get_config_variable("ca_bundle")
    if authority:
        client_options["root_certificate"] = Path(authority).read_bytes()
    url = urlsplit(address)
    proxy = get_environ_proxies(address).get(url.scheme)
    if proxy:
        client_options["proxy_url"] = proxy if "://" in proxy else f"http://{proxy}"
    else:
        # Without a proxy here obstore looks for one by its own rules: ALL_PROXY counts, a port in NO_PROXY does not.
        client_options |= {"proxy_url": "http://none.invalid", "proxy_excludes": url.hostname or ""}
    return S3Store(bucket, client_options=client_options, retry_config={"max_retries": 0}, **options)


def _resolved(client: Any, bucket: str) -> tuple[str, bool]:
    """The address of a bucket as boto3 resolves it, and whether its host names the bucket."""
    url = urlsplit(client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "key"}))
    path = url.path.removesuffix("/key")
    is_virtual_hosted = (url.hostname or "").startswith(f"{bucket}.")
    return (
        f"{url.scheme}://{url.netloc}{path if is_virtual_hosted else path.removesuffix(f'/{bucket}')}",
        is_virtual_hosted,
    )


def ask_region(client: Any, bucket: str) -> str:
    """Asks a bucket for its region, and so whether it exists and answers.

    Raises:
        Exception: What boto3 raises, except for a bucket that may be read and not
            listed: there the first object shows.
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

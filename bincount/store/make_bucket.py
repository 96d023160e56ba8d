"""Creates the bucket of the workspace on an S3 server of one's own, once it answers.

python -m bincount.store.make_bucket
"""

from __future__ import annotations

import sys
import time

from bincount.errors import BincountError, ConfigError, StoreError
from bincount.settings import Settings

_TIMEOUT_S = 120.0


def make_bucket(settings: Settings, *, timeout_s: float = _TIMEOUT_S) -> str:
    """Creates the bucket unless it is there.

    Args:
        settings: Name the workspace, and the server of its bucket.
        timeout_s: How long to wait for the server.

    Returns:
        What was done, in a sentence.

    Raises:
        ConfigError: If the workspace is a folder, its bucket is on AWS, or the keys may not create it.
        StoreError: If the server does not answer.
    """
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

    bucket = (settings.remote or "").removeprefix("s3://").partition("/")[0]
    endpoint = settings.buckets.get(bucket)
    if not bucket or endpoint is None:
        raise ConfigError(
            "BINCOUNT_WORKSPACE: must be in a bucket whose server BINCOUNT_BUCKETS names, "
            f"got {settings.remote or settings.workspace}. On AWS create the bucket yourself."
        )
    client = boto3.client("s3", endpoint_url=endpoint)
    until = time.monotonic() + timeout_s
    while True:
        try:
            if bucket in {each["Name"] for each in client.list_buckets()["Buckets"]}:
                return f"s3://{bucket}: is there, nothing changed"
            client.create_bucket(Bucket=bucket)
            return f"s3://{bucket}: created"
        except (BotoCoreError, ClientError) as error:
            status = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if 400 <= status < 500 or not (status or isinstance(error, ConnectionError | HTTPClientError)):
                raise ConfigError(f"s3://{bucket}: the keys must be allowed to create it, got {error}.") from error
            if time.monotonic() > until:
                raise StoreError(f"s3://{bucket}: its server must answer, got {error}.") from error
        time.sleep(1)


if __name__ == "__main__":
    try:
        print(make_bucket(Settings.from_env()))
    except BincountError as error:
        sys.exit(str(error))

"""A bucket: boto3 finds and lists it, obstore reads its objects.

Reading is left to obstore because boto3 spends 20 times the processor time an
object (docs/log-ingest.md). Endpoint, region and credentials are boto3's for both.
"""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from bincount.core.errors import ConfigError, StoreError
from bincount.edge.patience import Patience
from bincount.edge.s3_errors import cause_of, is_denied, translate
from bincount.edge.settings import Settings
from bincount.edge.store import MOST_BYTES, Fetched, Listed

if TYPE_CHECKING:
    import obstore.store

_T = TypeVar("_T")

_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 4, 8
# Objects held ready while an earlier one is still on its way: 4 x 32 x 57 kB = 7 MB.
_AHEAD = 4


class S3Store:
    """A bucket on AWS or on any server that speaks S3."""

    def __init__(self, source: str, settings: Settings) -> None:
        match = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/?", source)
        if not match:
            raise ConfigError(f"source: must be s3://BUCKET without a path, got {source!r}. Name the bucket alone.")
        self._bucket = match[1]
        self.source = f"s3://{self._bucket}"
        self._endpoint = settings.buckets.get(self._bucket)
        self._patience = Patience()
        self._client: Any = None
        self._bulk: obstore.store.S3Store | None = None

    @property
    def retries(self) -> Counter[str]:
        return self._patience.retries

    def pages(self, prefix: str) -> Iterator[list[Listed]]:
        asked: dict[str, Any] = {"Bucket": self._bucket, "Prefix": prefix}
        while True:
            page = self._ask(lambda client: client.list_objects_v2(**asked))
            yield [
                Listed(entry["Key"], entry["Size"], entry.get("ETag", "").strip('"'))
                for entry in page.get("Contents", [])
            ]
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def fetch(self, keys: Iterable[str], *, workers: int) -> Iterator[Fetched]:
        bulk = self._open_bulk()
        ahead: deque[Future[Fetched]] = deque()
        self._patience.start()
        pool = ThreadPoolExecutor(workers, thread_name_prefix="fetch")
        try:
            for key in keys:
                ahead.append(pool.submit(self._read, bulk, key))
                if len(ahead) >= _AHEAD * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            self._patience.stop()
            pool.shutdown(cancel_futures=True)

    def _read(self, bulk: obstore.store.S3Store, key: str) -> Fetched:
        import obstore
        from obstore.exceptions import BaseError

        since_s, attempt = time.monotonic(), 0
        while True:
            try:
                answer = obstore.get(bulk, key)
                if answer.meta["size"] > MOST_BYTES:
                    return Fetched(key, None, problem="too large")
                data = bytes(answer.bytes())
                self._patience.note_read()
                return Fetched(key, data, (answer.meta["e_tag"] or "").strip('"'))
            except FileNotFoundError:
                return Fetched(key, None, problem="missing")
            except BaseError as error:
                if is_denied(error):
                    if self._patience.has_read:
                        return Fetched(key, None, problem="denied")
                    raise ConfigError(
                        f"{self.source}: objects must be readable, got access denied for {key!r}. "
                        "Check the credentials, or read a public bucket without any."
                    ) from error
                attempt += 1
                if not self._patience.pause(attempt, since_s, cause_of(error)):
                    raise StoreError(
                        f"{self.source}: must answer, got {cause_of(error)} for {key!r} {attempt} times in "
                        f"{time.monotonic() - since_s:.0f} s. Run again later; what was read is kept."
                    ) from error

    def _ask(self, request: Callable[[Any], _T]) -> _T:
        """Asks boto3, again where that may help."""
        since_s, attempt = time.monotonic(), 0
        while True:
            try:
                answer = request(self._open_client())
                self._patience.start()
                return answer
            except Exception as error:
                wrong = translate(error, self.source, self._endpoint)
                attempt += 1
                may_help = isinstance(wrong, StoreError)
                if not may_help or not self._patience.pause(attempt, since_s, cause_of(error)):
                    raise wrong from error

    def _open_client(self) -> Any:
        if self._client is None:
            import boto3
            from botocore import UNSIGNED
            from botocore.config import Config

            session = boto3.session.Session()
            anonymous = {"signature_version": UNSIGNED} if session.get_credentials() is None else {}
            self._client = session.client(
                "s3",
                region_name=session.region_name or "us-east-1",
                endpoint_url=self._endpoint,
                config=Config(
                    connect_timeout=_CONNECT_TIMEOUT_S,
                    read_timeout=_READ_TIMEOUT_S,
                    retries={"total_max_attempts": 1},  # `Patience` decides, and counts
                    **anonymous,
                ),
            )
        return self._client

    def _open_bulk(self) -> obstore.store.S3Store:
        if self._bulk is None:
            region = self._ask(self._find_region)
            import boto3
            from obstore.auth.boto3 import Boto3CredentialProvider
            from obstore.store import S3Store as BulkStore

            session = boto3.session.Session()
            has_credentials = session.get_credentials() is not None
            endpoint = self._client.meta.endpoint_url
            self._bulk = BulkStore(
                self._bucket,
                region=region,
                skip_signature=not has_credentials,
                client_options={
                    "allow_http": True,
                    "connect_timeout": timedelta(seconds=_CONNECT_TIMEOUT_S),
                    "read_timeout": timedelta(seconds=_READ_TIMEOUT_S),
                    "timeout": timedelta(seconds=60),
                },
                retry_config={"max_retries": 0},
                **({} if ".amazonaws.com" in endpoint else {"endpoint": endpoint}),
                **({"credential_provider": Boto3CredentialProvider(session)} if has_credentials else {}),
            )
        return self._bulk

    def _find_region(self, client: Any) -> str:
        """Asks the bucket for its region, and so whether it is there at all."""
        from botocore.exceptions import ClientError

        try:
            answer = client.list_objects_v2(Bucket=self._bucket, MaxKeys=1)
        except ClientError as error:
            # A bucket may allow reading and forbid listing; the first object will tell.
            if error.response.get("Error", {}).get("Code") != "AccessDenied":
                raise
            answer = error.response
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        return headers.get("x-amz-bucket-region") or client.meta.region_name

"""A request to the model server that can be pasted."""

from __future__ import annotations

import base64
import json
import shlex
from pathlib import Path

from bincount.core.manifest import Manifest
from bincount.core.shards import decode_example, read_record
from bincount.edge.settings import Settings


def write_request(settings: Settings, manifest: str) -> Path:
    """Writes the JSON request of one test bin to the workspace.

    Args:
        settings: Where the workspace is.
        manifest: Digest of the manifest that the bin is taken from.

    Raises:
        DataError: If the manifest or its shard is not what it should be.
    """
    bins = Manifest.read(settings.manifests, manifest)
    record = next(iter(bins.part("test")), bins.records[0])
    with (settings.shards / bins.shards[record.shard].name).open("rb") as shard:
        photo = decode_example(read_record(shard, record.offset))["image"]
    assert isinstance(photo, bytes)
    columns = {"columns": ["image"], "data": [[base64.b64encode(photo).decode()]]}
    path = settings.workspace / "request.json"
    path.write_text(json.dumps({"dataframe_split": columns}))
    return path


def curl_of(model_url: str, request: Path) -> str:
    """The shell line that sends a request; it works in any folder.

    Example:
        >>> curl_of("http://127.0.0.1:5001", Path("/a b/request.json"))
        "curl -s http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' --data '@/a b/request.json'"
    """
    header = "Content-Type: application/json"
    return shlex.join(["curl", "-s", f"{model_url}/invocations", "-H", header, "--data", f"@{request}"])

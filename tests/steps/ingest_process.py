"""Runs one ingest with small shards in a process of its own, which tests kill.

python -m tests.steps.ingest_process WORKSPACE SHARD_BYTES '{"source": ..., "buckets": {...}}'
"""

import json
import sys
from pathlib import Path

from bincount.core import plan
from bincount.edge.settings import Settings
from bincount.steps.ingest import collect


def main():
    workspace, shard_bytes, asked = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
    plan.SHARD_BYTES = shard_bytes
    settings = Settings(workspace, "", workspace, buckets=asked.pop("buckets", {}))
    print(json.dumps(collect(settings, **asked)))


if __name__ == "__main__":
    main()

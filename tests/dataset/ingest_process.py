"""Runs one verb of an ingest with small shards in a process of its own, which tests kill.

python -m tests.dataset.ingest_process WORKSPACE SHARD_BYTES VERB '{"source": ..., "buckets": {...}}'
"""

import json
import sys
from pathlib import Path

from bincount.dataset import placement
from bincount.dataset.fetch import fetch
from bincount.dataset.ingest import collect
from bincount.dataset.plan import plan as plan_shards
from bincount.settings import Settings

VERBS = {"plan": plan_shards, "fetch": fetch, "collect": collect}


def main():
    workspace, shard_bytes, verb, asked = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
    placement.SHARD_BYTES = shard_bytes
    settings = Settings(workspace, "", workspace, buckets=asked.pop("buckets", {}))
    print(json.dumps(VERBS[verb](settings, **asked)))


if __name__ == "__main__":
    main()

"""How ingest works: a request, its candidates, their metadata, a plan, shards, a manifest."""

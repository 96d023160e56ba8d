#!/bin/sh
# The sample bucket: renders its bins once, then serves them to the other containers.
set -eu
python -m bincount.local.sample.render --folder /srv/sample/bins ${SAMPLE_BINS:+--bins "$SAMPLE_BINS"}
exec python -m bincount.local.embedded_s3 --folder /srv/sample/bins --host 0.0.0.0 --port 9000

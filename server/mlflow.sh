#!/bin/sh
# MLflow's server behind a login. Its users are in PostgreSQL too; the address holds a password, so it goes into no command line.
set -eu
umask 077
cat >/tmp/auth.ini <<INI
[mlflow]
default_permission = READ
database_uri = $AUTH_DATABASE
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
# Checking a password costs a tenth of a second of a processor, and a search logs thousands of numbers.
auth_cache_ttl_seconds = 60
INI
export MLFLOW_AUTH_CONFIG_PATH=/tmp/auth.ini
[ -n "${MLFLOW_S3_ENDPOINT_URL:-}" ] || unset MLFLOW_S3_ENDPOINT_URL
exec mlflow server --app-name basic-auth --host 0.0.0.0 --port 5000 --workers "$WORKERS" \
    --serve-artifacts --artifacts-destination "$ARTIFACTS"

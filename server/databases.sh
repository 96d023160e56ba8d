#!/bin/sh
# PostgreSQL's first start: a user and its databases for Airflow, another for MLflow; neither can look into the other's.
set -eu
psql --set ON_ERROR_STOP=1 --quiet --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\getenv airflow_password AIRFLOW_DB_PASSWORD
\getenv mlflow_password MLFLOW_DB_PASSWORD
CREATE USER airflow PASSWORD :'airflow_password';
CREATE USER mlflow PASSWORD :'mlflow_password';
CREATE DATABASE airflow OWNER airflow;
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
REVOKE CONNECT, TEMPORARY ON DATABASE airflow, mlflow, mlflow_auth FROM PUBLIC;
SQL

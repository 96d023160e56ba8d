#!/bin/sh
# Before Airflow's parts start: its tables, those of its users, the first user, the pool. Run again, it migrates the tables and sets the pool.
set -eu
airflow db migrate
airflow pools set gpu "$GPU_SLOTS" "Steps that train."
# Over stdin, since a command line is seen by every process of the machine.
printf '%s\n%s\n' "$ADMIN_PASSWORD" "$ADMIN_PASSWORD" | airflow users create \
    --username admin --firstname bincount --lastname admin --email admin@localhost --role Admin

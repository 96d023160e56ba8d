# One image for every part of the server's stack: docs/server.md.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

# The name `python3` and not `python`: it is what every base image has.
RUN python3 -m venv /opt/venv \
    && groupadd --gid 10001 bincount \
    && useradd --uid 10001 --gid 10001 --create-home bincount \
    && install -d -o bincount -g bincount /srv/airflow /srv/airflow/logs /srv/workspace /srv/cache /srv/artifacts /srv/sample
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

# Dependencies first: a change of code does not install them again. LOCKS names more of them for a GPU.
ARG LOCKS="requirements-server.lock"
# A package index of your own, where the public one is out of reach.
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
COPY requirements-setup.lock requirements-server.lock requirements-gpu.lock /opt/locks/
RUN cd /opt/locks \
    && python -m pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r requirements-setup.lock \
    && uv pip install --quiet --no-cache --compile-bytecode --python /opt/venv/bin/python --require-hashes $(printf -- '-r %s ' $LOCKS)

WORKDIR /opt/bincount
COPY pyproject.toml README.md LICENSE ./
COPY bincount bincount
COPY dags dags
COPY server server
RUN uv pip install --quiet --no-cache --python /opt/venv/bin/python --no-deps --no-build-isolation --editable . \
    && python -m compileall -q bincount dags

ENV AIRFLOW_HOME=/srv/airflow BINCOUNT_WORKSPACE=/srv/workspace MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=1
USER bincount
WORKDIR /srv/airflow
CMD ["bincount", "--help"]

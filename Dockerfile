# The program with its locked dependencies and the demonstration, for one machine or for every node of a Ray cluster:
#   docker build --tag cpp-at-scale:0.1.0 .
#   docker compose run --rm demo             # see compose.yaml
# It has the CUDA builds of PyTorch and FAISS, and works on a machine without a GPU too.
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY configs configs
COPY cpp cpp
COPY pipelines pipelines
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
# The lock file lists the tools of development too; as a constraint it only fixes versions.
COPY requirements.lock /tmp/
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --constraint /tmp/requirements.lock "ray[default]" /wheels/*.whl
RUN useradd --create-home --uid 1000 ray && mkdir --parents /srv/cpp/runs && chown -R ray /srv/cpp
USER ray
WORKDIR /srv/cpp
ENV RAY_USAGE_STATS_ENABLED=0
CMD ["cpp-at-scale", "demo"]

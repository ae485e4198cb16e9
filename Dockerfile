# docker build -t sadcl .
# The CPU-only torch, which is some GB smaller, comes from an index that pytorch.org/get-started names for it:
# docker build -t sadcl --build-arg PIP_EXTRA_INDEX_URL=ADDRESS .
FROM python:3.11-slim
ARG PIP_EXTRA_INDEX_URL=
ARG EXTRAS=serve,export
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY docs docs
COPY sadcl_core sadcl_core
COPY sadcl_cli sadcl_cli
RUN pip install --no-cache-dir -c constraints.txt ".[$EXTRAS]" && rm -rf /src/*
ENV HOME=/tmp
USER 1000
WORKDIR /data
EXPOSE 8000
ENTRYPOINT ["sadcl"]
CMD ["--help"]

# evolink-mcp over HTTP. compose.yaml starts it with a sandbox; by itself, with a file of tokens:
#   docker build --tag evolink-mcp .
#   docker run --rm --network none evolink-mcp token alice 2>> tokens.toml
#   docker run --read-only --cap-drop ALL --tmpfs /tmp --volume evolink:/data \
#     --volume ./tokens.toml:/run/secrets/tokens:ro --env EVOLINK_TOKENS_FILE=/run/secrets/tokens \
#     --env EVOLINK_API_KEY --publish 127.0.0.1:8080:8080 evolink-mcp
# A step that needs no shell can be taken where there is no engine, too: `make image`.

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN ["python", "-m", "venv", "--without-pip", "/opt/evolink-mcp"]
COPY requirements.lock ./
RUN ["python", "-m", "pip", "--python", "/opt/evolink-mcp/bin/python", "install", "--quiet", \
     "--only-binary", ":all:", "--require-hashes", "--requirement", "requirements.lock"]
COPY pyproject.toml README.md LICENSE ./
COPY evolink_mcp ./evolink_mcp
RUN ["python", "-m", "pip", "--python", "/opt/evolink-mcp/bin/python", "install", "--quiet", \
     "--no-deps", "--no-build-isolation", "."]
RUN ["mkdir", "-m", "700", "/data"]

FROM python:3.13-slim
COPY --from=build /opt/evolink-mcp /opt/evolink-mcp
# What was bought, and the pictures: all that is ever written, but for /tmp.
COPY --from=build --chown=10001:10001 /data /data
ENV EVOLINK_DATA_DIR=/data/record EVOLINK_OUTPUT_DIR=/data/pictures
USER 10001:10001
VOLUME ["/data"]
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["/opt/evolink-mcp/bin/python", "-c", "from http.client import HTTPConnection as Here; \
        here = Here('127.0.0.1', 8080, timeout=4); here.request('GET', '/healthz'); \
        raise SystemExit(here.getresponse().status != 200)"]
ENTRYPOINT ["/opt/evolink-mcp/bin/evolink-mcp"]
CMD ["serve", "--http", "0.0.0.0:8080"]

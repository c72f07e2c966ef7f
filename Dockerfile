# The image of breaker-proxy. It is built in the first stage, with nothing but wheels; the second one gets what came of
# it, one folder. The same base, sources and SOURCE_DATE_EPOCH give the same layer, byte by byte.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
# Seconds since 1970, of every file in our layer. By default the earliest that a zip archive can say.
ARG SOURCE_DATE_EPOCH=315532800
# The order of sets, which is kept in bytecode, depends on the seed. Bytecode that pip leaves would tell its time.
ENV PYTHONHASHSEED=0 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY deploy/image/build.lock deploy/image/run.lock ./
RUN python -m venv /build \
 && python -m venv --without-pip /venv \
 && /build/bin/pip install --require-hashes --only-binary :all: --no-compile --requirement build.lock \
 && /build/bin/pip --python /venv/bin/python install \
      --require-hashes --only-binary :all: --no-compile --requirement run.lock
COPY pyproject.toml README.md LICENSE ./
COPY proxy ./proxy
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /build/bin/pip --python /venv/bin/python install \
      --no-index --find-links /wheels --no-deps --no-compile breaker-proxy \
 && /build/bin/pip --python /venv/bin/python check
# Without what serves nobody: activation, and the sources of extension modules. Bytecode goes by hash and unchecked,
# since what is installed never changes. It lies in a tree of its own, because that of the standard library has to be
# there as well: slim images have none, the root is read-only, and compiling is the longest part of a start.
# The folder is copied below as part of another one: a copy has its own time, what is in it has not.
RUN rm /venv/bin/[Aa]ctivate* \
 && find /venv '(' -name '*.c' -o -name '*.h' -o -name '*.pxd' -o -name '*.pyx' ')' -delete \
 && export PYTHONPYCACHEPREFIX=/venv/bytecode \
 && python -m compileall -q --invalidation-mode unchecked-hash /venv/lib \
 && python -m compileall -q --invalidation-mode unchecked-hash \
      -x '/(dist-packages|ensurepip|idlelib|lib2to3|pydoc_data|site-packages|test|tests|tkinter|turtledemo)/' \
      "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
 && mkdir /image \
 && mv /venv /image \
 && find /image -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

FROM ${PYTHON_IMAGE}
ARG PYTHON_IMAGE
LABEL org.opencontainers.image.title="breaker-proxy" \
      org.opencontainers.image.description="An HTTP proxy that keeps a circuit breaker for each upstream host" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
COPY --from=build --chown=0:0 /image /
# In a Pod the admin port is probed and scraped from outside of the container; the proxy stays on loopback.
ENV PATH=/venv/bin:$PATH \
    PYTHONPYCACHEPREFIX=/venv/bytecode \
    PYTHONDONTWRITEBYTECODE=1 \
    BREAKER_PROXY_LISTEN_ADMIN=0.0.0.0:3129
USER 65532:65532
EXPOSE 3128 3129
STOPSIGNAL SIGTERM
# As the liveness probe of a Pod: a minute of silence.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=6 \
  CMD ["/venv/bin/python", "-m", "proxy.livez"]
ENTRYPOINT ["/venv/bin/breaker-proxy"]
CMD ["run"]

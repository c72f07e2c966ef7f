# The image of breaker-proxy: the wheel is built in one stage and installed, without compilers, in the other.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY proxy ./proxy
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --no-compile '.[intercept,terminal]'

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="breaker-proxy" \
      org.opencontainers.image.description="An HTTP proxy that keeps a circuit breaker for each upstream host" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /venv /venv
# In a Pod the admin port is scraped and probed from outside the container; the proxy port stays on loopback.
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    BREAKER_PROXY_LISTEN_ADMIN=0.0.0.0:3129
USER 65532:65532
EXPOSE 3128 3129
HEALTHCHECK --interval=10s --timeout=3s CMD ["python", "-c", \
  "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:3129/livez', timeout=2)"]
ENTRYPOINT ["breaker-proxy"]
CMD ["run"]

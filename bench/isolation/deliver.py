"""The dispatcher: a Celery app with one task, which delivers an event as any program with requests would.

It knows nothing of circuits. Whether there is a proxy, and whom it trusts, is told by its environment, as to
any unmodified program: HTTP_PROXY, HTTPS_PROXY, REQUESTS_CA_BUNDLE. Further variables, for this module only:

    ISOLATION_BROKER   the path of Redis's socket
    ISOLATION_FOLDER   where attempts are written, each process into a file of its own
    ISOLATION_SCALE    of the scenario's times
"""

import os
import sys
from functools import cache
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from typing import IO, Any

import requests
from celery import Celery
from celery.signals import worker_ready
from isolation import records
from isolation.records import WORKER_READY
from isolation.scenario import Scenario
from requests.adapters import HTTPAdapter

app = Celery(
    "isolation",
    broker=f"redis+socket://{os.environ.get('ISOLATION_BROKER', '')}",
    set_as_current=False,
)
app.conf.update(
    broker_connection_retry_on_startup=False,  # it has been seen to be ready
    task_ignore_result=True,
    worker_enable_remote_control=False,
    # No process has a second event waiting behind a call that hangs: the dispatcher's best case.
    worker_prefetch_multiplier=1,
    worker_redirect_stdouts=False,
)


@cache
def _scenario() -> Scenario:
    return Scenario().scaled(float(os.environ["ISOLATION_SCALE"]))


@cache
def _session() -> requests.Session:
    """The session of this process.

    Made at its first call: made sooner, the processes that are forked would share it. Kept, with a connection
    for each endpoint and not for ten as is the default: for each new connection over TLS, urllib3 reads the
    file of trusted certificates anew. What is compared here is not how fast handshakes are.
    """
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_connections=len(_scenario().endpoints())))
    return session


@cache
def _attempts() -> IO[str]:
    """What this process has tried."""
    path = Path(os.environ["ISOLATION_FOLDER"]) / f"attempts-{os.getpid()}.jsonl"
    return path.open("a", encoding="utf-8")


def _deliver(task: Any, event: int, endpoint: str, url: str, made_s: float) -> None:
    """Calls once, writes that down, and has Celery try again later where it failed.

    Args:
        task: as Celery runs it.
        event: its number.
        endpoint: by name.
        url: of the endpoint.
        made_s: when the event was due, in seconds of the monotonic clock.
    """
    scenario = _scenario()
    timeout_s = scenario.client_timeout_s
    status, is_refused, error, countdown_s = None, False, None, scenario.retry_s
    began_s = monotonic()
    try:
        answer = _session().post(
            url,
            json={"event": event, "endpoint": endpoint},
            timeout=(timeout_s, timeout_s),
            allow_redirects=False,
        )
    except requests.RequestException as raised:
        error = type(raised).__name__
    else:
        status = answer.status_code
        # The field alone tells less: the proxy's 502 and 504, after a call that it let through, have it too.
        is_refused = status == HTTPStatus.SERVICE_UNAVAILABLE and "X-Breaker-Reason" in answer.headers
        # RFC 9110 section 10.2.3: seconds, or a date, which none of those that we call here sends.
        if (after := answer.headers.get("Retry-After", "")).isdecimal():
            countdown_s = float(after)
    attempt = records.Attempt(event, endpoint, made_s, began_s, monotonic(), status, is_refused, error)
    records.write(attempt, _attempts())
    if not attempt.is_delivered and task.request.retries < scenario.retries:
        raise task.retry(countdown=countdown_s, max_retries=scenario.retries)


deliver = app.task(name="deliver", bind=True)(_deliver)


def _tell_ready(**_: Any) -> None:
    """Tells whoever has started the worker; the log has such a line too, but only with two for each event."""
    sys.stdout.write(f"{WORKER_READY}\n")
    sys.stdout.flush()


worker_ready.connect(_tell_ready)

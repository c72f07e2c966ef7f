"""A dispatcher on Celery: each task delivers an event. What the proxy refuses comes back when it says."""

import os
from typing import Any

import requests
from celery import Celery
from celery.exceptions import Ignore

app = Celery("webhooks", broker=os.environ["BROKER"])
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1)


@app.task(bind=True, autoretry_for=(requests.RequestException,), retry_backoff=True, max_retries=10)
def deliver(task: Any, url: str, event: dict[str, Any]) -> None:
    answer = requests.post(url, json=event, timeout=10)
    refused_s = answer.headers.get("Retry-After") if "X-Breaker-Reason" in answer.headers else None
    if refused_s:
        # It was not sent. The same task again, then, with as many retries left as before.
        task.signature_from_request(countdown=int(refused_s)).apply_async()
        raise Ignore
    answer.raise_for_status()

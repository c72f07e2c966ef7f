"""Publishes the events of a run at their times, however slowly they are delivered.

    python -m isolation.publish ONSET_S URLS

ONSET_S is in seconds of the monotonic clock, URLS a JSON object from the name of each endpoint to its URL.
The environment is the dispatcher's. When all are published it prints how many, and how late the latest was,
in seconds.

Late or not, an event is made when it was due: so a delay of this process counts against the delivery, and
cannot hide one (the coordinated omission of a load that waits for its victim).
"""

import json
import os
import sys
from collections.abc import Mapping
from time import monotonic, sleep

from isolation.deliver import app, deliver
from isolation.scenario import Scenario
from isolation.schedule import events


def publish(scenario: Scenario, onset_s: float, urls: Mapping[str, str]) -> dict[str, float]:
    """Publishes all; returns what is printed."""
    published, late_s = 0, 0.0
    with app.producer_or_acquire() as producer:
        for event in events(scenario):
            made_s = onset_s + event.due_s
            if (ahead_s := made_s - monotonic()) > 0:
                sleep(ahead_s)
            url = urls[event.endpoint]
            deliver.apply_async((event.number, event.endpoint, url, made_s), producer=producer)
            published += 1
            late_s = max(late_s, monotonic() - made_s)
    return {"published": published, "late_s": round(late_s, 4)}


if __name__ == "__main__":
    _scenario = Scenario().scaled(float(os.environ["ISOLATION_SCALE"]))
    sys.stdout.write(json.dumps(publish(_scenario, float(sys.argv[1]), json.loads(sys.argv[2]))) + "\n")

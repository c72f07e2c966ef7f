"""Makes dashboard.json: what an operator wants to know of breaker-proxy, in the order in which they ask it.

`make monitoring` runs it; import the JSON, or let provisioning/ do so. Every query is proven against a real
Prometheus by tests/system/test_monitoring.py. Sums are made of the exact totals without the label `circuit`;
what has that label is there for the first `metrics.max_circuits` of each sidecar only (docs/monitoring.md).
None of the recording rules is used, so that the dashboard works where they are not loaded, and for one Pod.
"""

import json
from itertools import count
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from panels import (
    BAD,
    GOOD,
    NOTE,
    QUIET,
    SOURCE,
    STATE_COLORS,
    WARN,
    Ask,
    Column,
    curves,
    number,
    rows,
    states,
    thresholds,
    timeline,
)

MADE = Path(__file__).with_name("dashboard.json")

# What the variables choose: sidecars, and circuits of theirs.
_NAMESPACE = 'job=~"$job",namespace=~"$namespace"'
_POD = f'{_NAMESPACE},pod=~"$pod"'
_S = f'{_POD},instance=~"$instance"'
_C = f'{_S},circuit=~"$circuit"'
_R = "[$__rate_interval]"


def _m(name: str, labels: str = "", chosen: str = _S) -> str:
    """A metric of the chosen sidecars."""
    return f"breaker_proxy_{name}{{{chosen}{',' + labels if labels else ''}}}"


def _rate(by: str, name: str, labels: str = "", chosen: str = _S) -> str:
    """What a counter adds each second, over all chosen sidecars."""
    summed = f"sum by ({by})" if by else "sum"
    return f"{summed} (rate({_m(name, labels, chosen)}{_R}))"


def _quantile(q: float, name: str, labels: str = "", by: str = "le") -> str:
    """A quantile of a histogram, over all chosen sidecars."""
    return f"histogram_quantile({q}, {_rate(by, name + '_seconds_bucket', labels)})"


def _top(query: str) -> str:
    return f"topk(10, {query} > 0)"


def _zero(query: str) -> str:
    return f"({query}) or vector(0)"


_REFUSED = _rate("", "rejected_total", 'enforced="true"')
_STATE = _m("circuit_state", chosen=_C)
# Circuits that are not closed, or whose state is an operator's doing; the worst of all sidecars.
_NOT_CLOSED = f"max by (circuit, scope) ({_STATE} > 0 < 5)"


def _of_these(query: str) -> str:
    """Only for circuits that are not closed."""
    return f"{query} and on (circuit, scope) {_NOT_CLOSED}"


_PHASES = "upstream_phase_seconds"
_TRIPPED, _FORCED = 'state=~"open|half_open"', 'state=~"forced_open|forced_closed"'
_NOT_NORMAL, _TO_OPEN = 'state!="closed"', 'to_state="open"'
_FAILED = 'outcome=~"failure|throttled"'
# Of look-ups: name servers were asked; and what of that failed.
_ASKED = 'result=~"answered|joined|not_found|failed|timed_out|stale"'
_UNANSWERED = 'result=~"failed|timed_out|stale"'


def _what_is_open() -> list[Any]:
    return [
        number(
            "Open",
            "Circuits that are open or half-open by themselves, in all sidecars. The table below names them.",
            Ask(f"sum({_m('circuits', _TRIPPED)})", "open"),
            unit="short",
            colors=thresholds((1, BAD)),
        ),
        number(
            "Forced",
            "Circuits that an operator has forced open or closed.",
            Ask(f"sum({_m('circuits', _FORCED)})", "forced"),
            unit="short",
            colors=thresholds((1, WARN)),
        ),
        number(
            "Refused",
            "The share of what was to be called that circuits have refused.",
            Ask(_zero(f"{_REFUSED} / ({_REFUSED} + {_rate('', 'calls_total')}) > 0"), "refused"),
            unit="percentunit",
            colors=thresholds((0.01, WARN), (0.1, BAD)),
        ),
        number(
            "Failed",
            "The share of the calls that passed which failed.",
            Ask(_zero(f"{_rate('', 'calls_total', _FAILED)} / {_rate('', 'calls_total')} > 0"), "failed"),
            unit="percentunit",
            colors=thresholds((0.01, WARN), (0.1, BAD)),
        ),
        number(
            "Sidecars down",
            "Targets that Prometheus cannot scrape.",
            Ask(_zero(f"count(up{{{_S}}} == 0)"), "down"),
            unit="short",
            colors=thresholds((1, BAD)),
        ),
        number(
            "Wrong configuration",
            "Sidecars whose last reload failed: they would not start again.",
            Ask(_zero(f"count({_m('config_reload_success')} == 0)"), "failed"),
            unit="short",
            colors=thresholds((1, BAD)),
        ),
        rows(
            "Circuits that are not closed",
            "The worst state of each circuit over all sidecars, and why. Empty is good.",
            ("circuit", "scope"),
            [
                Column("State", _NOT_CLOSED, "none", mappings=states()),
                Column("Sidecars", f"count by (circuit, scope) ({_STATE} > 0 < 5)", "short"),
                Column(
                    "Not closed for",
                    _of_these(
                        f"time() - max by (circuit, scope) (max_over_time(timestamp({_STATE} == 0)"
                        "[$__range:$__interval]))"
                    ),
                    "s",
                ),
                Column(
                    "Refused a second",
                    _of_these(_rate("circuit, scope", "circuit_rejected_total", 'enforced="true"', _C)),
                    "reqps",
                ),
                Column(
                    "Failures in an hour",
                    _of_these(
                        f"sum by (circuit, scope) (increase({_m('circuit_failures_total', chosen=_C)}[1h]))"
                    ),
                    "short",
                ),
                Column(
                    "Openings in an hour",
                    _of_these(
                        "sum by (circuit, scope) (increase("
                        f"{_m('circuit_transitions_total', _TO_OPEN, _C)}[1h]))"
                    ),
                    "short",
                ),
            ],
        ),
    ]


def _since_when() -> list[Any]:
    return [
        timeline(
            "States",
            "Each circuit that was not closed at some time of this range; its worst state over all sidecars.",
            Ask(
                f"max by (circuit, scope) ({_STATE}) and on (circuit, scope) "
                f"(max by (circuit, scope) (max_over_time({_STATE}[$__range] @ end())) > 0)",
                "{{circuit}}",
            ),
        ),
        curves(
            "Circuits by state",
            "All circuits, those without labels of their own too. Many at once: look at the network first.",
            Ask(f"sum by (state) ({_m('circuits', _NOT_NORMAL)})", "{{state}}"),
            unit="short",
            stacked=True,
            colors=STATE_COLORS,
        ),
        curves(
            "Changes of state",
            "Each minute. Many openings with as many closings: circuits flap.",
            Ask(f"60 * {_rate('to_state', 'transitions_total')}", "{{to_state}}"),
            unit="cpm",
            colors=STATE_COLORS,
        ),
    ]


def _what_it_costs() -> list[Any]:
    return [
        curves(
            "Calls",
            "What passed, by what it said of its upstream, and what was refused.",
            Ask(_rate("outcome", "calls_total"), "{{outcome}}"),
            Ask(_REFUSED, "refused"),
            unit="reqps",
            stacked=True,
            colors={"success": GOOD, "alive": NOTE, "throttled": WARN, "failure": BAD, "refused": "purple"},
        ),
        curves(
            "Failures by kind",
            "refused, unreachable, connect_timeout: nobody there. status: it answers with an error."
            " tls: certificates. abandoned: our client gave up first.",
            Ask(_rate("kind", "failures_total"), "{{kind}}"),
            unit="reqps",
            stacked=True,
        ),
        curves(
            "Circuits that refuse most",
            "The ten that have refused most, of those with labels.",
            Ask(
                _top(_rate("circuit, scope", "circuit_rejected_total", 'enforced="true"', _C)), "{{circuit}}"
            ),
            unit="reqps",
        ),
        curves(
            "Circuits that fail most",
            "The ten whose calls fail most, and how.",
            Ask(_top(_rate("circuit, kind", "circuit_failures_total", "", _C)), "{{circuit}} {{kind}}"),
            unit="reqps",
        ),
        curves(
            "Closest to opening",
            "The share of failed calls in the window of a circuit, the ten worst; one that has just opened"
            " begins anew.",
            Ask(
                _top(f"max by (circuit, scope) ({_m('circuit_failure_ratio', chosen=_C)})"),
                "{{circuit}}",
            ),
            unit="percentunit",
            most=1,
        ),
        curves(
            "Time spent open",
            "Which share of the time the ten worst were open, added up over sidecars.",
            Ask(_top(_rate("circuit, scope", "circuit_open_seconds_total", "", _C)), "{{circuit}}"),
            unit="percentunit",
        ),
        curves(
            "Probes",
            "How the calls ended that were to find out whether an upstream is well again.",
            Ask(_rate("result", "probes_total"), "{{result}}"),
            unit="reqps",
            width=24,
            colors={"success": GOOD, "alive": NOTE, "throttled": WARN, "failure": BAD, "neutral": QUIET},
        ),
    ]


def _who_refuses() -> list[Any]:
    return [
        curves(
            "Answers",
            "Whose answer clients got: the upstream's or the proxy's. none: the client left, or was cut off.",
            Ask(_rate("source, code_class", "requests_total"), "{{source}} {{code_class}}"),
            unit="reqps",
            stacked=True,
        ),
        curves(
            "Refusals by circuits",
            "Why calls were refused. too_many_in_flight: the upstream is slow, or circuit.max_in_flight too"
            " small.",
            Ask(_rate("reason", "rejected_total", 'enforced="true"'), "{{reason}}"),
            unit="reqps",
            stacked=True,
        ),
        curves(
            "Would be refused",
            "What circuits with `mode: observe` would have refused, and rules on hosts with `mode: report`.",
            Ask(_rate("reason", "rejected_total", 'enforced="false"'), "{{reason}}"),
            Ask(_rate("reason", "denied_total", 'enforced="false"'), "{{reason}}"),
            unit="reqps",
        ),
        curves(
            "Requests by entry",
            "How the targets were named: plain http, CONNECT, inside of intercepted TLS, a reverse route.",
            Ask(_rate("entry", "requests_total"), "{{entry}}"),
            unit="reqps",
        ),
    ]


def _latency() -> list[Any]:
    whole = [
        Ask(_quantile(q, "request"), name) for q, name in ((0.5, "half"), (0.95, "95 %"), (0.99, "99 %"))
    ]
    return [
        curves(
            "Phases, 95 %",
            "What 95 % of the calls stay below. dns: the name servers. connect: the way. tls: handshakes of"
            " our own. head: until the upstream answers. total: all that it kept waiting.",
            Ask(_quantile(0.95, "upstream_phase", by="le, phase"), "{{phase}}"),
            unit="s",
        ),
        curves(
            "Phases, mean",
            "The mean shows what one slow call in a hundred costs.",
            Ask(
                f"{_rate('phase', _PHASES + '_sum')} / {_rate('phase', _PHASES + '_count')}",
                "{{phase}}",
            ),
            unit="s",
        ),
        curves(
            "Whole requests",
            "From a request's head to the end of its answer; without tunnels and refusals.",
            *whole,
            unit="s",
        ),
        curves(
            "Our own part",
            "What the proxy itself takes: far below a millisecond. More: it gets too little of a CPU.",
            Ask(_quantile(0.5, "overhead"), "half"),
            Ask(_quantile(0.99, "overhead"), "99 %"),
            unit="s",
            limit=thresholds((0.05, BAD), base="transparent"),
        ),
    ]


def _resolver_and_egress() -> list[Any]:
    failed = _rate("", "dns_lookups_total", _UNANSWERED)
    return [
        curves(
            "Look-ups by result",
            "cached, negative: remembered. stale: the name servers fail, and an older answer was used.",
            Ask(_rate("result", "dns_lookups_total"), "{{result}}"),
            unit="ops",
            colors={
                "failed": BAD,
                "timed_out": "dark-red",
                "stale": WARN,
                "limited": "purple",
                "cached": GOOD,
            },
        ),
        curves(
            "Name servers fail",
            "The share of what they were asked that got no answer of theirs.",
            Ask(f"{failed} / {_rate('', 'dns_lookups_total', _ASKED)}", "failed"),
            unit="percentunit",
            most=1,
            limit=thresholds((0.1, BAD), base="transparent"),
        ),
        curves(
            "Denied",
            "Requests that are not wanted, by why. address_denied, host_denied, port_denied: the rules of"
            " egress. local_limit: no room.",
            Ask(_rate("reason", "denied_total", 'enforced="true"'), "{{reason}}"),
            unit="reqps",
            width=24,
        ),
    ]


def _connections() -> list[Any]:
    return [
        curves(
            "Under way",
            "Exchanges and tunnels at this moment. Growing without end: upstreams hang, and nobody gives up.",
            Ask(f"sum({_m('in_flight')})", "exchanges"),
            Ask(f"sum({_m('tunnels')})", "tunnels"),
            unit="short",
        ),
        curves(
            "Pool",
            "Upstream connections kept for the next request, and how many calls needed a new one.",
            Ask(f"sum by (state) ({_m('pool_connections')})", "{{state}}"),
            Ask(_rate("", "upstream_phase_seconds_count", 'phase="connect"'), "new a second"),
            unit="short",
        ),
        curves(
            "Content",
            "Bytes passed on, counted as exchanges end: a long tunnel shows only then.",
            Ask(_rate("direction", "bytes_total"), "{{direction}}"),
            unit="Bps",
        ),
        curves(
            "Table of circuits",
            "How full it is. When it is full, healthy circuits leave, and at last calls pass without one.",
            Ask(
                f"max(sum without (state) ({_m('circuits')}) / {_m('circuits_limit')})",
                "fullest",
            ),
            unit="percentunit",
            most=1,
            limit=thresholds((0.9, BAD), base="transparent"),
        ),
        curves(
            "What the table loses",
            "Evictions, calls without a circuit, and results that came too late to count.",
            Ask(_rate("", "circuit_evictions_total"), "evictions"),
            Ask(_rate("", "circuits_unprotected_total"), "unprotected calls"),
            Ask(_rate("", "late_results_total"), "late results"),
            unit="ops",
            colors={"unprotected calls": BAD},
        ),
    ]


def _kept_for_later() -> list[Any]:
    kept = f"{_m('deferred_depth')} + {_m('deferred_dead_letters')}"
    store = "deferred_store"
    return [
        curves(
            "Waiting",
            "Requests that were answered 202 and have not arrived yet, and those that are not tried again.",
            Ask(f"sum({_m('deferred_depth')})", "waiting"),
            Ask(f"sum({_m('deferred_dead_letters')})", "dead letters"),
            unit="short",
            colors={"dead letters": BAD},
        ),
        curves(
            "The oldest",
            "For how long it has waited. After defer.max_age it becomes a dead letter.",
            Ask(f"max({_m('deferred_oldest_age_seconds')})", "oldest"),
            unit="s",
        ),
        curves(
            "Kept and delivered",
            "Stored, delivered, attempts that failed, and given up. More stored than delivered: it fills.",
            Ask(_rate("", "deferred_stored_total"), "stored"),
            Ask(_rate("", "deferred_delivered_total"), "delivered"),
            Ask(_rate("", "deferred_failed_attempts_total"), "failed attempts"),
            Ask(_rate("", "deferred_dead_total"), "given up"),
            unit="ops",
            colors={"delivered": GOOD, "failed attempts": WARN, "given up": BAD},
        ),
        curves(
            "Not kept",
            "Requests that got 503 instead of 202, by why. unavailable: the disk takes nothing.",
            Ask(_rate("reason", "deferred_not_stored_total"), "{{reason}}"),
            unit="ops",
            colors={"unavailable": BAD},
        ),
        curves(
            "Room",
            "The share in use of what may be kept, and sidecars whose disk takes nothing.",
            Ask(f"max(({kept}) / {_m('deferred_limit')})", "requests"),
            Ask(f"max({_m('deferred_bytes')} / {_m('deferred_limit_bytes')})", "bytes"),
            Ask(f"count({_m(store + '_up')}) - sum({_m(store + '_up')})", "down"),
            unit="percentunit",
            colors={"down": BAD},
            limit=thresholds((0.8, BAD), base="transparent"),
        ),
        curves(
            "Until it is durable",
            "How long a sender waits for its 202: the disk.",
            Ask(_quantile(0.5, store), "half"),
            Ask(_quantile(0.99, store), "99 %"),
            unit="s",
        ),
    ]


def _process() -> list[Any]:
    name = "{{instance}}"
    return [
        curves(
            "CPU",
            "Of one core each: one process uses no more. At 100 % it is the bottleneck.",
            Ask(f"rate(process_cpu_seconds_total{{{_S}}}{_R})", name),
            unit="percentunit",
            limit=thresholds((0.9, BAD), base="transparent"),
        ),
        curves(
            "Memory",
            "Resident, each process.",
            Ask(f"process_resident_memory_bytes{{{_S}}}", name),
            unit="bytes",
        ),
        curves(
            "Descriptors",
            "The share in use; without any it can neither take a connection nor open one.",
            Ask(f"process_open_fds{{{_S}}} / process_max_fds{{{_S}}}", name),
            unit="percentunit",
            most=1,
            limit=thresholds((0.85, BAD), base="transparent"),
        ),
        curves(
            "Up for",
            "Falls to nothing at a restart, when all circuits are forgotten (but for state_file).",
            Ask(f"time() - process_start_time_seconds{{{_S}}}", name),
            unit="s",
        ),
        curves(
            "Versions",
            "Of the program: one, and two while it is being rolled out.",
            Ask(f"count by (version) ({_m('build_info')})", "{{version}}"),
            unit="short",
            width=24,
        ),
    ]


ROWS = {
    "What is open?": _what_is_open,
    "Since when?": _since_when,
    "What does it cost?": _what_it_costs,
    "Who refuses?": _who_refuses,
    "What is slow?": _latency,
    "Names, and what may be called": _resolver_and_egress,
    "Connections and circuits": _connections,
    "What is kept for later": _kept_for_later,
    "The process": _process,
}


def _variable(name: str, label: str, query: str, *, is_one: bool = False) -> dashboard.QueryVariable:
    """One that has the values of a label; `.*` for all, so that it also fits where nothing has that label."""
    variable = (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"qryType": 1, "query": query, "refId": name})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )
    if is_one:
        return variable.current(model.VariableOption(text="breaker-proxy", value="breaker-proxy"))
    return (
        variable.multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(text=["All"], value=["$__all"]))
    )


def _variables() -> list[Any]:
    return [
        dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"),
        _variable("job", "Job", "label_values(breaker_proxy_build_info, job)", is_one=True),
        _variable("namespace", "Namespace", 'label_values(breaker_proxy_build_info{job=~"$job"}, namespace)'),
        _variable("pod", "Pod", f"label_values(breaker_proxy_build_info{{{_NAMESPACE}}}, pod)"),
        _variable(
            "instance",
            "Instance",
            f"label_values(breaker_proxy_build_info{{{_POD}}}, instance)",
        ),
        _variable("circuit", "Upstream", f"label_values({_m('circuit_state')}, circuit)"),
    ]


def _changes(to_state: str, from_state: str) -> str:
    states_ = f'to_state="{to_state}",from_state="{from_state}"'
    by = "circuit, reason"
    return f"sum by ({by}) (increase({_m('circuit_transitions_total', states_, _C)}[1m])) > 0"


# Name, query, colour, title and text of what is marked in all charts.
_ANNOTATIONS = (
    ("Openings", _changes("open", "closed"), "red", "{{circuit}} opened", "{{reason}}"),
    ("Recoveries", _changes("closed", "half_open"), "green", "{{circuit}} closed", "{{reason}}"),
    (
        "Reloads that failed",
        f"{_m('config_reload_success')} == 0 and changes({_m('config_reload_success')}[1m]) > 0",
        "purple",
        "The configuration could not be reloaded",
        "{{instance}}",
    ),
    (
        "Starts",
        f"changes(process_start_time_seconds{{{_S}}}[1m]) > 0",
        "blue",
        "Started anew",
        "{{instance}}",
    ),
)


def _annotations() -> list[dict[str, object]]:
    # As data: the library knows no titles and texts of Prometheus' annotations.
    return [
        {
            "name": name,
            "datasource": SOURCE,
            "enable": True,
            "expr": query,
            "iconColor": color,
            "step": "60s",
            "titleFormat": title,
            "textFormat": text,
        }
        for name, query, color, title, text in _ANNOTATIONS
    ]


def content() -> str:
    """The JSON, with a line break at its end."""
    builder = (
        dashboard.Dashboard("breaker-proxy")
        .uid("breaker-proxy")
        .description(
            "What is open, since when, what it costs, who refuses, what is slow: docs/monitoring.md."
        )
        .tags(["breaker-proxy", "circuit-breaker"])
        .editable()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .time("now-3h", "now")
        .refresh("30s")
        .timezone("browser")
        .variables(_variables())
    )
    ids = count(1)
    for title, panels in ROWS.items():
        builder = builder.with_row(dashboard.Row(title).id(next(ids)))
        for panel in panels():
            builder = builder.with_panel(panel.id(next(ids)))
    made = json.loads(json.dumps(builder.build(), cls=JSONEncoder))
    made["annotations"] = {"list": json.loads(json.dumps(_annotations(), cls=JSONEncoder))}
    return json.dumps(made, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    MADE.write_text(content(), encoding="utf-8")

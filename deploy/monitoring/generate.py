#!/usr/bin/env python3
"""Writes dashboards/*.json for Grafana, and prometheusrule.yaml, which is rules.yaml for the Prometheus operator.

`generate.py` writes, `generate.py --check` fails when a file is not as it would be written.

A dashboard is a list of rows, a row a list of panels: title, unit, queries of (legend, PromQL), and SIGNED where values may be below
zero. Nothing but this table and the frame that Grafana wants around it.
"""
import json
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
MODEL = 'model_name=~"$model", namespace=~"$namespace"'
POD = 'namespace=~"$namespace"'
EXP = 'exp=~"$experiment", namespace=~"$namespace"'
SIGNED = True


def rate(name, by, where=MODEL, window="$__rate_interval"):
    return f"sum by ({by}) (rate({name}{{{where}}}[{window}]))"


def quantile(q, name, by="variant", where=MODEL):
    return f"histogram_quantile({q}, sum by ({by}, le) (rate({name}_bucket{{{where}}}[$__rate_interval])))"


def mean(name, by="variant", where=MODEL):
    return f"{rate(name + '_sum', by, where)} / {rate(name + '_count', by, where)}"


def quantiles(name, by="variant"):
    return [(f"{{{{{by}}}}} p{round(q * 100)}", quantile(q, name, by)) for q in (0.5, 0.95, 0.99)]


def share(name, outcome, by, where=EXP):
    return f"{rate(name, by, where + ', ' + outcome)} / {rate(name, by, where)}"


def largest(name, by, where=EXP):
    return f"max by ({by}) ({name}{{{where}}})"


DASHBOARDS = {
    "overview": ("Vernier: overview", [
        ("Traffic and errors", [
            ("Requests by end", "reqps", [("{{variant}} {{finished_reason}}", rate("vernier_requests_total", "variant, finished_reason"))]),
            ("Failures of ours", "percentunit", [("{{variant}}", (
                rate("vernier_requests_total", "variant", MODEL + ', code=~"INTERNAL|UNAVAILABLE|RESOURCE_EXHAUSTED"')
                + " / " + rate("vernier_requests_total", "variant")))]),
            ("Refusals of admission", "reqps", [("{{reason}}", rate("vernier_admission_rejections_total", "reason"))]),
            ("Tokens", "short", [("{{variant}} written", rate("vernier_generation_tokens_total", "variant")),
                                 ("{{variant}} read", rate("vernier_prompt_tokens_total", "variant"))]),
        ]),
        ("Latency", [
            ("Time to first token", "s", quantiles("vernier_time_to_first_token_seconds")),
            ("Between tokens", "s", quantiles("vernier_inter_token_latency_seconds")),
            ("Whole request", "s", quantiles("vernier_request_duration_seconds")),
            ("Waiting for the first row", "s", quantiles("vernier_request_queue_time_seconds")),
        ]),
        ("Saturation", [
            ("Requests", "short", [("{{variant}} waiting", f"sum by (variant) (vernier_requests_waiting{{{MODEL}}})"),
                                   ("{{variant}} running", f"sum by (variant) (vernier_requests_running{{{MODEL}}})")]),
            ("KV cache in use", "percentunit", [("{{pod}}", f"vernier_pod_kv_cache_usage_ratio{{{POD}}}")]),
            ("Connections", "short", [("{{pod}} gRPC", f"vernier_grpc_connections{{{POD}}}"),
                                      ("{{pod}} HTTP", f"vernier_http_connections{{{POD}}}")]),
            ("Ready", "short", [("{{pod}} ready", f"vernier_ready{{{POD}}}"), ("{{pod}} draining", f"vernier_draining{{{POD}}}")]),
        ]),
    ]),
    "precisions": ("Vernier: precisions side by side", [
        ("Speed", [
            ("Time to first token, p95", "s", [("{{variant}}", quantile(0.95, "vernier_time_to_first_token_seconds"))]),
            ("Between tokens, p95", "s", [("{{variant}}", quantile(0.95, "vernier_inter_token_latency_seconds"))]),
            ("Tokens written", "short", [("{{variant}}", rate("vernier_generation_tokens_total", "variant"))]),
            ("Time of a step, mean", "s", [("{{variant}} {{phase}}", mean("vernier_step_duration_seconds", "variant, phase"))]),
        ]),
        ("Memory", [
            ("Weights of its own", "bytes", [("{{variant}}",
                f'max by (variant) (vernier_memory_bytes{{component="weights", {POD}}})')]),
            ("All components", "bytes", [("{{component}}", f"sum by (component) (vernier_memory_bytes{{{POD}}})")]),
            ("Share of the KV pool", "percentunit", [("{{variant}}", f"max by (variant) (vernier_kv_cache_usage_ratio{{{MODEL}}})")]),
            ("Weights", "none", [("{{variant}} {{weights_sha256_12}} {{quant_method}}", f"vernier_variant_info{{{MODEL}}}")]),
        ]),
        ("Quality, as Compare finds it", [
            ("Agreement with the baseline, mean", "percentunit", [("{{variant}} against {{baseline}}",
                mean("vernier_compare_token_agreement_ratio", "variant, baseline"))]),
            ("First token that differs, median", "none", [("{{variant}} against {{baseline}}",
                quantile(0.5, "vernier_compare_divergence_position_tokens", "variant, baseline"))]),
            ("Difference of log perplexity, p95", "none", [("{{variant}} against {{baseline}}",
                quantile(0.95, "vernier_compare_logprob_abs_diff", "variant, baseline"))]),
            ("Corrupted requests", "short", [("{{variant}} {{kind}}", rate("vernier_corrupted_requests_total", "variant, kind"))]),
        ]),
    ]),
    "engine": ("Vernier: engine", [
        ("Steps", [
            ("Time of a step", "s", quantiles("vernier_step_duration_seconds", "variant")),
            ("Sequences of a step, mean", "none", [("{{variant}}", mean("vernier_step_batch_size"))]),
            ("Rows of a step, mean", "none", [("{{variant}}", mean("vernier_step_tokens"))]),
            ("Age of the heartbeat", "s", [("{{pod}}", f"time() - vernier_engine_heartbeat_timestamp_seconds{{{POD}}}")]),
        ]),
        ("Cache", [
            ("Blocks", "none", [("{{variant}} {{state}}", f"sum by (variant, state) (vernier_kv_cache_blocks{{{MODEL}}})")]),
            ("Prompt tokens found in the prefix cache", "percentunit", [("{{variant}}",
                rate("vernier_prefix_cache_hits_total", "variant") + " / " + rate("vernier_prefix_cache_queries_total", "variant"))]),
            ("Preemptions", "short", [("{{variant}}", rate("vernier_preemptions_total", "variant"))]),
            ("Cancelled to freed, p99", "s", [("all", quantile(0.99, "vernier_cancel_to_free_seconds", "job", POD))]),
        ]),
        ("Process", [
            ("CPU", "short", [("{{pod}}", f"rate(process_cpu_seconds_total{{{POD}}}[$__rate_interval])")]),
            ("Resident memory", "bytes", [("{{pod}}", f"process_resident_memory_bytes{{{POD}}}")]),
            ("Descriptors", "none", [("{{pod}}", f"process_open_fds{{{POD}}} / process_max_fds{{{POD}}}")]),
            ("Rendering this page, p99", "s", [("all", quantile(0.99, "vernier_metrics_render_seconds", "job", POD))]),
            ("Calls of each method", "reqps", [("{{method}}", rate("vernier_grpc_calls_started_total", "method", POD))]),
            ("Calls by code, p99", "s", [("{{method}} {{code}}",
                quantile(0.99, "vernier_grpc_call_duration_seconds", "method, code", POD + ', code="OK"'))]),
            ("Refused connections, failed handshakes, self-dials, log lines", "short", [
                ("{{pod}} connections, {{limit}}", f"rate(vernier_grpc_connections_refused_total{{{POD}}}[$__rate_interval])"),
                ("{{pod}} TLS", f"rate(vernier_tls_failures_total{{{POD}}}[$__rate_interval])"),
                ("{{pod}} self-dial", f"rate(vernier_self_dial_failures_total{{{POD}}}[$__rate_interval])"),
                ("{{pod}} log", f"rate(vernier_log_dropped_total{{{POD}}}[$__rate_interval])")]),
            ("Watchdog", "short", [("{{pod}}", f"vernier_watchdog_trips_total{{{POD}}}")]),
        ]),
    ]),
    "experiments": ("Vernier: experiments", [
        ("Who takes part", [
            ("State", "none", [("{{exp}} {{state}}", largest("vernier_exp_state", "exp, state") + " == 1")]),
            ("Share of the units that takes part", "percentunit", [("{{exp}}", largest("vernier_exp_coverage", "exp"))]),
            ("Exposures by what served", "reqps", [("{{exp}} {{arm}}, served by {{served}}",
                rate("vernier_exp_exposures_total", "exp, arm, served", EXP))]),
            ("Exposures by reason", "reqps", [("{{exp}} {{reason}}", rate("vernier_exp_exposures_total", "exp, reason", EXP))]),
        ]),
        ("Whether to believe it", [
            ("Sample ratio, ln Bayes factor (alarm above 6.9)", "none", [("{{exp}}", largest("vernier_exp_srm_ln_bf", "exp"))], SIGNED),
            ("Exposures lost", "short", [("{{pod}}", f"rate(vernier_exp_log_dropped_total{{{POD}}}[$__rate_interval])")]),
            ("Feedback", "short", [("{{outcome}}", rate("vernier_exp_feedback_total", "outcome", POD))]),
            ("Rolled back", "none", [("{{exp}} {{reason}}", largest("vernier_exp_rollbacks_total", "exp, reason"))]),
        ]),
        ("What it shows", [
            ("Errors", "percentunit", [("{{exp}} {{arm}}", share("vernier_exp_finished_total", 'outcome="error"', "exp, arm"))]),
            ("Empty or looping answers", "percentunit", [("{{exp}} {{arm}}",
                share("vernier_exp_finished_total", 'outcome="broken"', "exp, arm"))]),
            ("Metrics, with the bounds that hold at every look", "none", [
                ("{{exp}} {{arm}} {{metric}}", largest("vernier_exp_metric_mean", "exp, arm, metric")),
                ("{{exp}} {{arm}} {{metric}}, low", largest("vernier_exp_metric_cs_low", "exp, arm, metric")),
                ("{{exp}} {{arm}} {{metric}}, high", largest("vernier_exp_metric_cs_high", "exp, arm, metric"))], SIGNED),
            ("Shadows", "reqps", [("{{exp}} {{arm}} {{outcome}}", rate("vernier_exp_shadow_total", "exp, arm, outcome", EXP))]),
        ]),
    ]),
}
# What a board filters by, beside the namespace: the model, but for these.
VARIABLES = {"experiments": ("experiment", "label_values(vernier_exp_state, exp)")}
MODEL_VARIABLE = ("model", "label_values(vernier_requests_total, model_name)")


def variable(name, query):
    return {"name": name, "type": "query", "datasource": {"type": "prometheus", "uid": "${datasource}"}, "refresh": 2,
            "query": {"query": query, "refId": name}, "includeAll": True, "allValue": ".*", "multi": True, "current": {"text": "All", "value": "$__all"}}


def panel(number, content, x, y):
    title, unit, queries, *signed = content
    return {"id": number, "type": "timeseries", "title": title, "gridPos": {"x": x, "y": y, "w": 6, "h": 8},
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "fieldConfig": {"defaults": {"unit": unit, **({} if signed else {"min": 0})}, "overrides": []},
            "targets": [{"refId": chr(ord("A") + i), "legendFormat": legend, "expr": expr,
                         "datasource": {"type": "prometheus", "uid": "${datasource}"}} for i, (legend, expr) in enumerate(queries)]}


def dashboard(uid, title, rows):
    panels, y, number = [], 0, 1
    for name, row in rows:
        panels.append({"id": number, "type": "row", "title": name, "collapsed": False, "panels": [],
                       "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        y, number = y + 1, number + 1
        for i, content in enumerate(row):
            panels.append(panel(number, content, 6 * (i % 4), y + 8 * (i // 4)))
            number += 1
        y += 8 * ((len(row) + 3) // 4)
    return {"uid": f"vernier-{uid}", "title": title, "tags": ["vernier"], "schemaVersion": 38, "version": 1, "editable": True,
            "timezone": "utc", "refresh": "30s", "time": {"from": "now-1h", "to": "now"},
            "templating": {"list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "current": {}},
                variable("namespace", "label_values(vernier_ready, namespace)"),
                variable(*VARIABLES.get(uid, MODEL_VARIABLE))]},
            "panels": panels}


def prometheus_rule(rules):
    groups = rules[rules.index("groups:"):]
    indented = "".join(f"  {line}" if line.strip() else line for line in groups.splitlines(keepends=True))
    return ("# rules.yaml as an object of the Prometheus operator; written by generate.py.\n"
            "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: vernier\nspec:\n" + indented)


def main():
    check = sys.argv[1:] == ["--check"]
    texts = {f"dashboards/{uid}.json": json.dumps(dashboard(uid, title, rows), indent=1) + "\n"
             for uid, (title, rows) in DASHBOARDS.items()}
    texts["prometheusrule.yaml"] = prometheus_rule((FOLDER / "rules.yaml").read_text())
    stale = []
    for name, text in texts.items():
        path = FOLDER / name
        if check and (not path.exists() or path.read_text() != text):
            stale.append(name)
        elif not check:
            path.write_text(text)
    if stale:
        sys.exit(f"not as generate.py writes them: {', '.join(stale)}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Table of ratios from the JSON lines of scripts/bench: medians of Apache Kafka and Corelane, and what is wanted."""

import json
import statistics
import sys

# label, field, unit, title, most that Corelane / Kafka (or Corelane alone: "<= x") may be; None: no promise
ROWS = [
    ("ready-empty", "ms", "ms", "ready on an empty directory", ("abs", 300)),
    ("ready-kill9", "ms", "ms", "ready after kill -9 with data", ("abs", 1000)),
    ("idle-100", "rss_mib", "MiB", "resident, idle, 100 partitions", ("abs", 60)),
    ("idle-1000", "cpu_pct", "% of a core", "CPU, idle, 1,000 partitions", ("abs", 1)),
    ("open-sticky", "e2e_us.p50", "us", "end to end p50, 20,000 msg/s, sticky", ("ratio", 1)),
    ("open-sticky", "e2e_us.p99", "us", "end to end p99, 20,000 msg/s, sticky", ("ratio", 0.5)),
    ("open-sticky", "server_cpu_s_per_mmsg", "s/Mmsg", "server CPU per million messages, sticky", ("ratio", 0.5)),
    ("open-key", "e2e_us.p50", "us", "end to end p50, 20,000 msg/s, keyed", ("ratio", 1)),
    ("open-key", "e2e_us.p99", "us", "end to end p99, 20,000 msg/s, keyed", ("ratio", 0.5)),
    ("open-key", "server_cpu_s_per_mmsg", "s/Mmsg", "server CPU per million messages, keyed", ("ratio", 0.5)),
    ("max-1", "mb_s", "MB/s", "full speed, 1 connection", None),
    ("max-1", "server_cpu_s_per_gb", "s/GB", "server CPU per GB, 1 connection", ("ratio", 0.5)),
    ("max-4", "mb_s", "MB/s", "full speed, 4 connections", None),
    ("max-4", "server_cpu_s_per_gb", "s/GB", "server CPU per GB, 4 connections", ("ratio", 0.5)),
    ("consume", "mb_s", "MB/s", "consume", None),
    ("consume", "server_cpu_s_per_gb", "s/GB", "server CPU per GB consumed", None),
]


# What is promised over TLS.
TLS_GOALS = {"e2e_us.p50": None, "e2e_us.p99": ("ratio", 0.3), "server_cpu_s_per_gb": ("ratio", 0.5)}


def field(line, path):
    for name in path.split("."):
        line = line.get(name) if isinstance(line, dict) else None
    return line


def main():
    tls = sys.argv[1] == "--tls"
    with open(sys.argv[-1], encoding="utf-8") as file:
        lines = [json.loads(line) for line in file if line.startswith("{")]

    def median(broker, label, path):
        found = [field(line, path) for line in lines if line["label"] == f"{broker}/{label}"]
        found = [value for value in found if value is not None]
        return statistics.median(found) if found else None

    print(f"{'':44} {'Kafka':>10} {'Corelane':>10}  {'unit':12} {'ratio':>7}  wanted")
    for label, path, unit, title, goal in ROWS:
        kafka, ours = median("kafka", label, path), median("corelane", label, path)
        if kafka is None and ours is None:
            continue
        if tls:
            goal = TLS_GOALS.get(path, goal)
        ratio = ours / kafka if kafka and ours is not None else None
        verdict = ""
        if goal and ours is not None:
            value, limit = (ours, f"<= {goal[1]} {unit}") if goal[0] == "abs" else (ratio, f"<= {goal[1]} of Kafka's")
            verdict = f"{limit}: {'yes' if value is not None and value <= goal[1] else 'NO'}"
        show = lambda value: "-" if value is None else f"{value:.2f}" if value < 100 else f"{value:.0f}"
        print(f"{title:44} {show(kafka):>10} {show(ours):>10}  {unit:12} {show(ratio):>7}  {verdict}")
        print(json.dumps({"metric": title, "unit": unit, "kafka": kafka, "corelane": ours, "ratio": ratio}), file=sys.stderr)
    bad = [line["label"] for line in lines if line.get("errors") or line.get("unsent")]
    for label in sorted(set(bad)):
        print(f"errors or unsent messages in {bad.count(label)} run(s) of {label}")


if __name__ == "__main__":
    main()

"""Corelane and Apache Kafka under the loads of scripts/bench-disk: CPU seconds for each GB. Arguments: load generator, rounds."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

LOADGEN, ROUNDS = sys.argv[1], int(sys.argv[2])
BENCHES = Path(__file__).parent
BROKERS = ("corelane", "kafka")
SECONDS = os.environ.get("RUN_SECONDS", "4")
# Batches of one partition after the other, each a request of its own; then one small batch for each of 16 partitions.
LARGE = ["--partitions", "1", "--batch", "1000000", "--request", "1000000"]
SMALL = ["--partitions", "16", "--batch", "4096", "--request", "65536"]
LOAD = ["--max", "--size", "1000", "--inflight", "4", "--seconds", SECONDS, "--warmup", "3"]
# What a consumer reads in one go.
READ = ["--partition-bytes", "1048576"]


def broker(name, verb):
    return subprocess.run([BENCHES / f"{name}.sh", verb], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def load(name, *arguments):
    command = [LOADGEN, "--bootstrap", broker(name, "bootstrap"), *arguments]
    if pid := broker(name, "pids"):
        command += ["--server-pid", pid]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300).stdout
    found = json.loads(out.strip().splitlines()[-1])
    if found.get("errors") or found.get("unsent"):
        sys.exit(f"{name}: errors: {out}")
    return found


def start(name):
    broker(name, "start")
    load(name, "--wait")


def cold(name):
    """Neither the broker nor the kernel has anything of the files in memory afterwards."""
    broker(name, "stop")
    subprocess.run(["sync"], check=True)
    caches = Path("/proc/sys/vm/drop_caches")
    if os.access(caches, os.W_OK):
        caches.write_text("3")
    else:
        subprocess.run(["sudo", "tee", caches], input="3", check=True, stdout=subprocess.DEVNULL, text=True)
    start(name)


def measure(name):
    """Three loads on an empty broker."""
    broker(name, "wipe")
    start(name)
    large = load(name, "--topic", "large", "--create", *LARGE, *LOAD)
    small = load(name, "--topic", "small", "--create", *SMALL, *LOAD)
    cold(name)
    read = load(name, "--topic", "large", "--consume", *READ)
    broker(name, "wipe")
    return large, small, read


def main():
    try:
        found = {name: [] for name in BROKERS}
        for _ in range(ROUNDS):
            for name in BROKERS:
                found[name].append(measure(name))
    finally:
        for name in BROKERS:
            broker(name, "wipe")
    print(f"{'CPU of the broker':38}{'Corelane':>24}{'Kafka':>24}{'ratio':>8}")
    for number, what in enumerate(("produce, 1 MB batches", "produce, 4 KiB batches", "cold read, 1 MiB a fetch")):
        median = lambda name, key: statistics.median(run[number][key] for run in found[name])
        cells = [f"{median(n, 'server_cpu_s_per_gb'):.2f} s/GB {median(n, 'mb_s'):5.0f} MB/s" for n in BROKERS]
        ratio = median("corelane", "server_cpu_s_per_gb") / median("kafka", "server_cpu_s_per_gb")
        print(f"{what:38}{cells[0]:>24}{cells[1]:>24}{ratio:8.2f}")
    print("Corelane acknowledges what is on disk, Kafka what is in the page cache: both as by default.")


main()

"""The engine's examples and fio in turns; see scripts/bench-disk. Arguments: directory of the examples, of the data, rounds."""

import json
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

EXAMPLES, DIR, ROUNDS = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
DATA, PROBE = DIR / "data", DIR / "fio"


def run(command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{done.stderr}")
    return done.stdout


def fio(side, block, depth, *more):
    """MB/s, median latency in us, CPU s/GB. A write begins a new file, as a segment does, unless told to overwrite."""
    if side == "write" and "--overwrite=1" not in more:
        PROBE.unlink(missing_ok=True)
    command = ["fio", "--name=probe", f"--filename={PROBE}", f"--rw={side}", f"--bs={block}", f"--iodepth={depth}"]
    command += ["--ioengine=io_uring", "--direct=1", "--thread", "--cpus_allowed=1", "--output-format=json", *more]
    job = json.loads(run(command))["jobs"][0]
    found = job[side]
    cpu = (job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] / 1e3 / (found["io_bytes"] / 1e9)
    # Reads that fio measures in fewer requests than it has percentiles for have none.
    latency = found["clat_ns"].get("percentile", {}).get("50.000000", 0) / 1e3
    return {"MB/s": found["bw_bytes"] / 1e6, "p50": latency, "cpu": cpu}


def engine(example, *arguments, **patterns):
    """The numbers that the patterns find in the example's output, on an empty directory."""
    shutil.rmtree(DATA, ignore_errors=True)
    out = run([f"{EXAMPLES}/{example}", DATA, *arguments])
    return {name: float(re.search(pattern, out)[1]) for name, pattern in patterns.items()}


def appends(*arguments):
    return engine(
        "append_bench",
        *arguments,
        **{"MB/s": r"([\d.]+) MB/s", "p50": r"p50 ([\d.]+)", "cpu": r"([\d.]+) s/GB", "written": r"written ([\d.]+)"},
    )


def turns(theirs, ours):
    """Medians of both, run in turns: disks have better and worse minutes."""
    pairs = [(theirs(), ours()) for _ in range(ROUNDS)]
    return [{key: statistics.median(p[side][key] for p in pairs) for key in pairs[0][side]} for side in (0, 1)]


def line(what, ours, disk, ratio, want, more):
    print(f"{what:38}{ours:>11}{disk:>11}{ratio:>7}{want:>9}   {more}", flush=True)


def both(depth):
    """The disk's own limit, and what is left of it where each write is durable when it ends, as an append is."""
    found = fio("write", "1M", depth, "--size=1g")
    return {**found, "durable": fio("write", "1M", depth, "--size=1g", "--sync=dsync")["MB/s"]}


def compare(what, unit, key, want, theirs, ours, more=lambda log, disk: ""):
    disk, log = turns(theirs, ours)
    cpu = f"CPU s/GB {log['cpu']:.3f}, fio {disk['cpu']:.3f}"
    line(what, f"{log[key]:.0f} {unit}", f"{disk[key]:.0f} {unit}", f"{log[key] / disk[key]:.2f}", want, cpu + more(log, disk))


line("", "log", "fio", "ratio", "want", "")
for depth in (1, 4, 16):
    compare(
        f"durable append, 1 MiB, {depth} in flight",
        "MB/s",
        "MB/s",
        ">= 0.85",
        lambda: both(depth),
        lambda: appends(1, depth, 2, 1 << 20),
        lambda log, disk: f"; {log['written']:.3f} bytes written a byte (<= 1.1); fio durably {disk['durable']:.0f} MB/s",
    )
fio("write", "1M", 4, "--size=64m")
compare(
    "durable append, 4 KiB, 1 in flight",
    "us",
    "p50",
    "<= 1.3",
    lambda: fio("write", "4k", 1, "--size=64m", "--overwrite=1", "--sync=dsync", "--time_based", "--runtime=2"),
    lambda: appends(1, 1, 2, 4096),
)
small = appends(256, 1, 2, 1024)
line("small appends, 256 logs, 1 KiB", f"{small['MB/s']:.0f} MB/s", "", f"{small['written']:.2f}", "<= 2.1", "bytes written a byte")

fio("write", "1M", 4, "--size=1g")
read = {"MB/s": r"cold: ([\d.]+)", "cpu": r"cold: .*CPU ([\d.]+)"}
tail = {"disk reads": r"tail: .*; (\d+) disk reads", "tail": r"tail: ([\d.]+)"}
seen = []


def reads():
    found = engine("read_bench", 1024, 64 << 10, 1 << 20, **read, **tail)
    seen.append(found)
    return {key: found[key] for key in read}


compare("cold read, one consumer, 1 MiB a fetch", "MB/s", "MB/s", ">= 0.85", lambda: fio("read", "1M", 1, "--size=1g"), reads)
line("read of the tail", "", "", f"{max(s['disk reads'] for s in seen):.0f}", "0", "reads of the disk, for 1 GB just appended")

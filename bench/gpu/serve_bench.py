#!/usr/bin/env python3
"""Everything that is measured through HTTP on a GPU machine: the rows of bench/README.md's table, start-up times, memory over
starts and stops. Called by run.sh; standard library only. Each stage appends JSON lines to OUT/serve.jsonl."""

import argparse
import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time

import rows
from server import Server

HERE = pathlib.Path(__file__).resolve().parent


class Bench:
    def __init__(self, args):
        self.bundle, self.out, self.args = args.bundle.resolve(), args.out.resolve(), args
        self.out.mkdir(parents=True, exist_ok=True)
        self.models = self.out / "models"
        self.configs, self.ok = {}, True
        self.flags = ["--max-model-len", "8192", "--no-enable-prefix-caching", *args.donar_flags.split()]
        commit = self.bundle / "COMMIT"
        self.commit = commit.read_text().strip() if commit.exists() else ""
        self.device = nvidia_smi("name")

    def model(self, name, weights=False):
        out = self.models / (name + ("-weights" if weights else ""))
        if not (out / "tokenizer.json").exists() or (weights and not (out / "model.safetensors").exists()):
            make = [sys.executable, HERE / "make_model.py", HERE / "models" / name, out]
            subprocess.run(make + (["--weights"] if weights else []), check=True)
        self.configs[name] = json.loads((out / "config.json").read_text())
        return out

    def server(self, model, *flags, dummy=True):
        load = ["--load-format", "dummy"] if dummy else []
        return Server(self.bundle / "donar", [model, *load, *self.flags, *flags], self.out / "server.log")

    def note(self, line):
        with (self.out / "serve.jsonl").open("a") as file:
            file.write(json.dumps({"device": self.device, "commit": self.commit} | line) + "\n")

    def failed(self, what):
        self.ok = False
        print(f"FAILED: {what}", flush=True)


def nvidia_smi(query):
    try:
        command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()
    except (OSError, subprocess.CalledProcessError, IndexError):
        return ""


def ceilings(bundle):
    """What the op benchmarks print first: GB/s of a read-only stream, TFLOP/s of dense BF16 products, both of this minute."""
    for bench in sorted(bundle.glob("bench_*_cuda")):
        out = subprocess.run([bench, "no case has this name"], capture_output=True, text=True).stdout
        found = re.search(r"read (\d+) GB/s, dense bf16 (\d+) TFLOP/s", out)
        if found:
            return {"read": float(found[1]) * 1e9, "products": float(found[2]) * 1e12}
    return {}


class Power:
    """Watts and MHz while a row runs: a card at its power limit explains a row below its ceiling."""

    def __enter__(self):
        command = ["nvidia-smi", "--query-gpu=power.draw,clocks.sm", "--format=csv,noheader,nounits", "-lms", "200"]
        try:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except OSError:
            self.process = None
        return self

    def __exit__(self, *_):
        self.samples = []
        if self.process is not None:
            self.process.terminate()
            for text in self.process.communicate()[0].splitlines():
                parts = text.split(", ")
                if len(parts) == 2 and all(re.fullmatch(r"[\d.]+", part) for part in parts):
                    self.samples.append(tuple(map(float, parts)))

    def line(self):
        if not self.samples:
            return {}
        watts, mhz = zip(*self.samples)
        return {"watts_mean": sum(watts) / len(watts), "watts_max": max(watts), "mhz_min": min(mhz), "mhz_max": max(mhz)}


def run_row(bench, server, row):
    command = [bench.bundle / "bench_serve", "--url", server.url, "--json", "--label", row.name, "--commit", bench.commit]
    command += ["--input-len", row.in_len, "--output-len", row.out_len, "--concurrency", row.streams]
    command += ["--num-requests", row.requests, "--warmup", row.warmup, "--repeat", row.repeat]
    power = Power()
    with power if row.streams >= 32 else contextlib.nullcontext():  # sampling would be felt by short rows
        result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    if result.returncode != 0 or not lines:
        bench.failed(f"{row.model}, {row.name}: {result.stderr.strip()} {lines[-1].get('first_error', '') if lines else ''}")
        print(server.tail(5), flush=True)
        return
    # The median run by the number that counts.
    lines.sort(key=lambda line: rows.measured(row, line) or 0)
    line = lines[len(lines) // 2] | (power.line() if row.streams >= 32 else {})
    line["model"] = row.model
    line["row"] = row.name
    step = server.metrics("donar:step_host_seconds")
    if step:
        line["step_host_seconds"] = step
    bench.note(line)
    report(bench, row, line)


def report(bench, row, line):
    shape = rows.Shape.of(bench.configs[row.model])
    value = rows.measured(row, line)
    part = rows.share(row, shape, value, bench.ceilings)
    marks = {True: "yes", False: "NO", None: "-"}
    met = [rows.reached(row, target, value, part) for target in (row.must, row.goal)]
    target = [f"{t:.0%}" if t and t < 1 else f"{t:g}" if t else "-" for t in (row.must, row.goal)]
    print(
        f"{row.model:<13} {row.name:<30} {value if value is not None else '-':>9} "
        f"{f'{part:.1%}' if part else '-':>7}  {target[0]:>6} {marks[met[0]]:<4} {target[1]:>6} {marks[met[1]]:<4} "
        f"{'{watts_max:.0f} W {mhz_min:.0f}-{mhz_max:.0f} MHz'.format(**line) if 'watts_max' in line else ''}",
        flush=True,
    )
    if row.stage == "load":
        name, most = rows.MEAN_TTFT_MS
        mean = line["ttft_ms"]["mean"]
        print(f"{'':<13} {name:<38} {mean:>9}  {'<= ' + format(most, 'g'):>7} {marks[mean <= most]}", flush=True)


def stage_rows(bench, stage):
    wanted = [row for row in rows.ROWS if row.stage == stage]
    for name in dict.fromkeys(row.model for row in wanted):
        mine = [row for row in wanted if row.model == name]
        seqs = max(row.streams for row in mine)
        with bench.server(bench.model(name), "--max-num-seqs", max(seqs, 32)) as server:
            for row in mine:
                run_row(bench, server, row)


def start_line(bench, name, seconds, most, server, extra=None):
    phases = {key[8:-2]: value for key, value in server.metrics("donar:startup_seconds").items()}
    bench.note({"bench": "start", "row": name, "seconds": seconds, "phases": phases} | (extra or {}))
    detail = ", ".join(f"{key} {value:.2f}" for key, value in phases.items())
    bar = f"< {most:g} s {'yes' if min(seconds) < most else 'NO'}" if most else ""
    print(f"{name:<44} {' '.join(f'{s:.2f}' for s in seconds)} s   {bar}   ({detail})", flush=True)


def stage_start(bench):
    model, seconds = bench.model("llama-3.1-8b"), []
    for _ in range(5):
        with bench.server(model, "--max-num-seqs", 32) as server:
            seconds.append(server.start_s)
            last = server
            if len(seconds) == 5:
                start_line(bench, "start to /health 200, 8B dummy weights", seconds, 2.0, last)


def drop_from_cache(path):
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def disk_rate(path, threads=8, block=8 << 20, limit=8 << 30):
    """Bytes a second of parallel O_DIRECT reads from the end of the file, which no load has touched last."""
    import mmap

    size = path.stat().st_size
    first = max(0, size - limit) // block * block
    offsets, lock = list(range(first, size - block + 1, block)), threading.Lock()

    def reader():
        file = os.open(path, os.O_RDONLY | os.O_DIRECT)
        buffer = mmap.mmap(-1, block)
        while True:
            with lock:
                if not offsets:
                    break
                offset = offsets.pop()
            os.preadv(file, [buffer], offset)
        os.close(file)

    total, begin = len(offsets) * block, time.monotonic()
    workers = [threading.Thread(target=reader) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return total / (time.monotonic() - begin)


def stage_load_file(bench):
    """A 16 GB checkpoint: from the page cache, then cold beside the disk's own rate. Wants 17 GB under OUT."""
    begin = time.monotonic()
    model = bench.model("llama-3.1-8b", weights=True)
    weights = model / "model.safetensors"
    gigabytes = weights.stat().st_size / 1e9
    print(f"checkpoint of {gigabytes:.1f} GB in {model}, made in {time.monotonic() - begin:.0f} s", flush=True)
    with weights.open("rb") as file:  # into the page cache, as far as it fits
        while file.read(64 << 20):
            pass
    for name, most in (("16 GB in the page cache", 4.0), ("16 GB cold", None)):
        extra = {}
        if most is None:
            drop_from_cache(weights)
            extra["disk_bytes_per_s"] = disk_rate(weights)
            drop_from_cache(weights)
        with bench.server(model, "--max-num-seqs", 32, dummy=False) as server:
            load_s = server.metrics("donar:startup_seconds").get('{phase="weights"}', server.start_s)
            if most is None:
                part = weights.stat().st_size / load_s / extra["disk_bytes_per_s"]
                extra |= {"load_bytes_per_s": weights.stat().st_size / load_s, "share_of_disk": part}
            start_line(bench, f"start to /health 200, {name}", [server.start_s], most, server, extra)
            if most is None:
                verdict = "yes" if part >= 0.9 else "NO"
                print(f"{'':<13} disk {extra['disk_bytes_per_s'] / 1e9:.2f} GB/s, share {part:.0%}  >= 90 % {verdict}", flush=True)


def stage_cycles(bench):
    model, before, seconds = bench.model("llama-3.1-8b"), nvidia_smi("memory.used"), []
    for i in range(20):
        with bench.server(model, "--max-num-seqs", 32) as server:
            server.complete({"model": str(model), "prompt": [1, 2, 3], "max_tokens": 4, "ignore_eos": True})
            seconds.append(server.start_s)
            code = server.stop()
            if code != 0:
                bench.failed(f"start {i + 1}: the server ended with {code}:\n{server.tail(5)}")
                return
    time.sleep(0.5)
    after = nvidia_smi("memory.used")
    bench.note({"bench": "cycles", "cycles": 20, "mib_before": before, "mib_after": after, "start_s": seconds})
    print(f"20 starts and stops: {before} MiB used before, {after} MiB after; starts {min(seconds):.2f}-{max(seconds):.2f} s", flush=True)
    if before != after:
        bench.failed("the device's memory is not back at its level")


STAGES = {"start": stage_start, "load-file": stage_load_file, "cycles": stage_cycles}
ROW_STAGES = list(dict.fromkeys(row.stage for row in rows.ROWS))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "donar-bench")
    parser.add_argument("--donar-flags", default="", help="more flags of `donar serve`, in one word")
    parser.add_argument("stages", nargs="+", choices=[*ROW_STAGES, *STAGES])
    args = parser.parse_args()
    bench = Bench(args)
    bench.ceilings = ceilings(bench.bundle)
    print(
        f"{bench.device or 'no GPU that nvidia-smi shows'}, commit {bench.commit or 'unknown'}: "
        f"read {bench.ceilings.get('read', 0) / 1e9:.0f} GB/s, BF16 products {bench.ceilings.get('products', 0) / 1e12:.0f} TFLOP/s"
    )
    print(f"{'model':<13} {'row':<30} {'measured':>9} {'share':>7}  {'must':>6} {'':<4} {'goal':>6}")
    bench.note({"bench": "ceilings"} | bench.ceilings)
    for stage in args.stages:
        try:
            STAGES[stage](bench) if stage in STAGES else stage_rows(bench, stage)
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            bench.failed(f"stage {stage}: {error}")
    return 0 if bench.ok else 1


if __name__ == "__main__":
    sys.exit(main())

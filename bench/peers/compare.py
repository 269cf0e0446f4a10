#!/usr/bin/env python3
"""Donar on the CPU beside llama.cpp: the same files, threads and minutes. Each row interleaves both, in rounds, and takes the best of
each; prints what was reached of what must be, and appends a JSON line to --out. Standard library only; run.sh prepares what it wants.

  compare.py --peer DIR --models DIR [ROW...]      rows: see --list; without, all
"""

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import signal
import statistics
import subprocess
import sys
import time
import typing

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "gpu"))
from gguf import bytes_of_token  # noqa: E402
from serve_bench import disk_rate, drop_from_cache  # noqa: E402
from server import Server  # noqa: E402

PROMPT, DECODE = 256, 48
SHARE = 0.88  # of the read bandwidth: what a decode step reaches at most, one told itself
SMOL, Q4_0 = "SmolLM2-135M-Instruct.Q4_1.gguf", "llama-1b-Q4_0.gguf"


class Failed(Exception):
    pass


def run(command, timeout_s=1800, **more):
    command = [str(word) for word in command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, **more)
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(command)}: no end after {timeout_s} s") from None
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: ends with {done.returncode}\n{done.stderr.strip()[-800:]}")
    return done.stdout


def bench_serve(args, server, *flags):
    """The JSON line of the load generator's only run."""
    return json.loads(run([args.donar.parent / "bench_serve", "--url", server.url, "--json", *flags]))


def donar_bench(args, model, *flags):
    command = [*args.prefix, args.donar, "bench", args.models / model, "--device", "cpu", "--threads", args.threads, "--json"]
    return json.loads(run([*command, *flags]))


def llama_bench(args, peer, model, prompt, decode, repeat):
    """Best prompt and decode rates of one call; 0 where none was asked for."""
    command = [*args.prefix, peer / "llama-bench", "-m", args.models / model, "-t", args.threads, "-p", prompt, "-n", decode, "-r", repeat, "-o", "json"]
    best = {"prompt": 0.0, "decode": 0.0}
    for test in json.loads(run(command)):
        key = "decode" if test["n_gen"] else "prompt"
        best[key] = max(best[key], *test["samples_ts"])
    return best


def speeds(args, model):
    """The table's rows: prompt and decode of one stream."""
    peers = {"native": args.peer}
    if args.peer_without_amx:
        peers["without_amx"] = args.peer_without_amx
    found = {name: {"prompt": 0.0, "decode": 0.0} for name in [*peers, "donar"]}
    read = 0.0

    def keep(name, prompt, decode):
        found[name]["prompt"] = max(found[name]["prompt"], prompt)
        found[name]["decode"] = max(found[name]["decode"], decode)

    for _ in range(args.rounds):
        for name, peer in peers.items():
            got = llama_bench(args, peer, model, PROMPT, DECODE, args.repeat)
            keep(name, got["prompt"], got["decode"])
        # llama-bench decodes from an empty cache: one token is the least that can be in ours.
        flags = ["--input-len", PROMPT, "--context", 1, "--output-len", DECODE + 1, "--repeat", args.repeat]
        got = donar_bench(args, model, *flags)
        keep("donar", got["best_prompt_tokens_per_s"], got["best_decode_tokens_per_s"])
        read = max(read, got["read_bandwidth_bytes_per_s"])
    size = bytes_of_token(args.models / model)
    ours, theirs = found["donar"], found["native"]
    line = {"speeds": found, "read_bytes_per_s": read, "bytes_per_token": size}
    line["prompt_ratio"], line["decode_ratio"] = ours["prompt"] / theirs["prompt"], ours["decode"] / theirs["decode"]
    line["read_share"] = ours["decode"] * size / read
    line["peer_read_share"] = theirs["decode"] * size / read
    if args.peer_without_amx:
        other = found["without_amx"]
        line["prompt_ratio_without_amx"] = ours["prompt"] / other["prompt"]
        line["decode_ratio_without_amx"] = ours["decode"] / other["decode"]
    return line


def speeds_text(line):
    found = line["speeds"]
    text = [f"{name} {rates['prompt']:.0f} prompt, {rates['decode']:.1f} decode" for name, rates in found.items()]
    text = f"{'; '.join(text)} tok/s; read {line['read_bytes_per_s'] / 1e9:.1f} GB/s, {line['bytes_per_token'] / 1e6:.0f} MB a token"
    if "prompt_ratio_without_amx" in line:
        text += f"; beside llama.cpp without AMX {line['prompt_ratio_without_amx']:.2f}x and {line['decode_ratio_without_amx']:.2f}x"
    return text


def speeds_bars(prompt, decode, floor):
    """`decode` times llama.cpp, or with `floor` the lower of that and a share of the read bandwidth."""

    def bars(line):
        yield "prompt", f"{line['prompt_ratio']:.2f}x", f">= {prompt}x", line["prompt_ratio"] >= prompt
        reached = line["decode_ratio"] >= decode or (floor and line["read_share"] >= SHARE)
        must = f"the lower of {decode}x and {SHARE:.0%}" if floor else f">= {decode}x"
        yield "decode", f"{line['decode_ratio']:.2f}x, {line['read_share']:.0%} of reads", must, reached

    return bars


def streams_beside_one(args, model, streams):
    best = {1: 0.0, streams: 0.0}
    for _ in range(args.rounds):
        for count in best:
            flags = ["--input-len", 64, "--context", 64, "--output-len", 65, "--repeat", 1, "--batch-size", count]
            best[count] = max(best[count], donar_bench(args, model, *flags)["best_decode_tokens_per_s"])
    return {"one_tokens_per_s": best[1], "streams": streams, "streams_tokens_per_s": best[streams], "ratio": best[streams] / best[1]}


def streams_beside_peer(args, model, streams, prompt=128, decode=64):
    best = {"donar": 0.0, "peer": 0.0}
    for _ in range(args.rounds):
        command = [*args.prefix, args.peer / "llama-batched-bench", "-m", args.models / model, "-t", args.threads]
        command += ["-c", streams * (prompt + decode), "-npp", prompt, "-ntg", decode, "-npl", streams, "--output-format", "jsonl"]
        lines = [json.loads(text) for text in run(command).splitlines() if text.startswith("{")]
        best["peer"] = max(best["peer"], *(line["speed_tg"] for line in lines))
        flags = ["--input-len", prompt, "--output-len", decode + 1, "--repeat", 1, "--batch-size", streams]
        best["donar"] = max(best["donar"], donar_bench(args, model, *flags)["best_decode_tokens_per_s"])
    return {"streams": streams, "tokens_per_s": best["donar"], "peer_tokens_per_s": best["peer"], "ratio": best["donar"] / best["peer"]}


def long_context(args, model, short=128, long=4096):
    """Decode behind a long context beside a short one; by the bytes that each must read, it may be slower."""
    rates, size = {short: 0.0, long: 0.0}, {}
    for _ in range(args.rounds):
        for context in rates:
            flags = ["--input-len", 1, "--context", context, "--output-len", 33, "--repeat", 1]
            got = donar_bench(args, model, *flags)
            rates[context] = max(rates[context], got["best_decode_tokens_per_s"])
            size[context] = got["step_weight_bytes"] + got["step_kv_bytes"]
    line = {"tokens_per_s": {str(context): rate for context, rate in rates.items()}}
    return line | {"bytes_ratio": size[long] / size[short], "kept": rates[long] / rates[short] * size[long] / size[short]}


def first_token(args, model):
    best = {}
    with served(args, model, "--no-enable-prefix-caching") as server:
        for seed in range(args.rounds):
            flags = ["--input-len", 32, "--output-len", 8, "--num-requests", 40, "--warmup", 5, "--seed", seed, "--max-id", 40000]
            got = bench_serve(args, server, *flags)["ttft_ms"]
            best = min(best or got, got, key=lambda spread: spread["p50"])
    return {"ttft_ms": best}


def start(args, model, cold):
    """Seconds from exec to the first 200: with the file in the page cache, or without beside the disk's own rate."""
    path = (args.models / model).resolve()
    if not cold:
        path.read_bytes()
        seconds = []
        for _ in range(5):
            with served(args, model) as server:
                seconds.append(server.start_s)
        return {"seconds": seconds, "best_s": min(seconds)}
    drop_from_cache(path)
    rate = disk_rate(path)
    drop_from_cache(path)
    with served(args, model) as server:
        took = server.start_s
    return {"seconds": [took], "best_s": took, "disk_bytes_per_s": rate, "share_of_disk": path.stat().st_size / took / rate}


class BusyLoop:
    """A process that never rests, on the last of the cores that this one may use."""

    def __enter__(self):
        core = max(os.sched_getaffinity(0))
        code = f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
        self.process = subprocess.Popen([sys.executable, "-c", code])
        time.sleep(0.3)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def busy_core(args, model):
    """Medians: the best of several would be the one run that the loop left alone."""
    rates = {"donar": ([], []), "peer": ([], [])}

    def decode(which):
        rates["donar"][which].append(donar_bench(args, model, "--input-len", 1, "--output-len", DECODE + 1)["decode_tokens_per_s"])
        rates["peer"][which].append(llama_bench(args, args.peer, model, 0, DECODE, 1)["decode"])

    for _ in range(args.rounds):
        decode(0)
        with BusyLoop():
            decode(1)
    line = {}
    for name, (quiet, busy) in rates.items():
        line[name] = {"quiet_tokens_per_s": statistics.median(quiet), "busy_tokens_per_s": statistics.median(busy)}
        line[name]["kept"] = statistics.median(busy) / statistics.median(quiet)
    return line


def idle(args, model, seconds=10):
    with served(args, model) as server:
        server.complete({"model": str(args.models / model), "prompt": [1000, 1001, 1002], "max_tokens": 8, "ignore_eos": True})
        time.sleep(1)

        def used():
            words = pathlib.Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

        before = used()
        time.sleep(seconds)
        return {"cpu_seconds": used() - before, "of_seconds": seconds}


def served(args, model, *flags):
    log = args.out.parent / f".{args.out.stem}-server.log"
    return Server(args.donar, [args.models / model, "--device", "cpu", "--threads", args.threads, *flags], log)


@dataclasses.dataclass
class Row:
    title: str
    model: str
    measure: typing.Callable  # (args, model) -> what goes into the JSON line
    bars: typing.Callable  # line -> (what, reached, must, whether it is)
    text: typing.Callable = lambda line: ""


def bar(what, value, must, met):
    """One bar: each a function of the line but `what` and `must`."""

    def bars(line):
        yield what, value(line), must, met(line)

    return bars


def table_row(title, model, prompt, decode, floor):
    return Row(title, model, speeds, speeds_bars(prompt, decode, floor), speeds_text)


def context_row(name, model):
    return Row(
        f"context 4,096, {name}",
        model,
        long_context,
        bar("kept beyond KV bytes", lambda l: f"{l['kept']:.0%}", ">= 80 %", lambda l: l["kept"] >= 0.8),
        lambda l: f"tok/s {l['tokens_per_s']}, bytes {l['bytes_ratio']:.2f}x",
    )


def busy_row(name, model):
    return Row(
        f"a busy loop on one core, {name}",
        model,
        busy_core,
        bar("decode kept", lambda l: f"{l['donar']['kept']:.0%}", ">= 60 %", lambda l: l["donar"]["kept"] >= 0.6),
        lambda l: f"llama.cpp keeps {l['peer']['kept']:.0%}",
    )


ROWS = {
    "smollm2": table_row("SmolLM2-135M", SMOL, 3.0, 1.6, False),
    "q4_0": table_row("1B Q4_0", Q4_0, 1.8, 1.3, True),
    "q8_0": table_row("1B Q8_0", "llama-1b-Q8_0.gguf", 2.8, 1.2, True),
    "bf16": table_row("1B BF16", "llama-1b-BF16.gguf", 1.2, 1.0, True),
    "q4_k_m": table_row("1B Q4_K_M", "llama-1b-Q4_K_M.gguf", 1.8, 1.3, True),
    "streams8": Row(
        "8 streams, 1B Q4_0",
        Q4_0,
        lambda args, model: streams_beside_one(args, model, 8),
        bar("beside one", lambda l: f"{l['ratio']:.2f}x", ">= 5x", lambda l: l["ratio"] >= 5),
        lambda l: f"one {l['one_tokens_per_s']:.1f}, eight {l['streams_tokens_per_s']:.1f} tok/s",
    ),
    "streams16": Row(
        "16 streams, SmolLM2",
        SMOL,
        lambda args, model: streams_beside_peer(args, model, 16),
        bar("decode", lambda l: f"{l['ratio']:.2f}x", ">= 3x llama-batched-bench", lambda l: l["ratio"] >= 3),
        lambda l: f"llama.cpp {l['peer_tokens_per_s']:.0f}, donar {l['tokens_per_s']:.0f} tok/s",
    ),
    "context-1b": context_row("1B Q4_0", Q4_0),
    "context-smollm2": context_row("SmolLM2", SMOL),
    "busy": busy_row("1B Q4_0", Q4_0),
    "busy-smollm2": busy_row("SmolLM2", SMOL),
    "idle": Row(
        "idle server",
        SMOL,
        idle,
        bar("CPU time", lambda l: f"{l['cpu_seconds']:.2f} of {l['of_seconds']} s", "none", lambda l: l["cpu_seconds"] <= 0.01),
    ),
    "ttft": Row(
        "TTFT, 32 tokens, SmolLM2",
        SMOL,
        first_token,
        bar("p50", lambda l: f"{l['ttft_ms']['p50']:.1f} ms", "< 20 ms", lambda l: l["ttft_ms"]["p50"] < 20),
    ),
    "start": Row(
        "start to /health 200, SmolLM2",
        SMOL,
        lambda args, model: start(args, model, cold=False),
        bar("best of 5", lambda l: f"{l['best_s']:.2f} s", "< 0.4 s", lambda l: l["best_s"] < 0.4),
    ),
    "start-1b": Row(
        "start to /health 200, 1B Q4_0, in the page cache",
        Q4_0,
        lambda args, model: start(args, model, cold=False),
        lambda l: iter([("best of 5", f"{l['best_s']:.2f} s", "-", None)]),
    ),
    "start-1b-cold": Row(
        "start to /health 200, 1B Q4_0, cold",
        Q4_0,
        lambda args, model: start(args, model, cold=True),
        bar("share of the disk's rate", lambda l: f"{l['share_of_disk']:.0%}", ">= 90 %", lambda l: l["share_of_disk"] >= 0.9),
        lambda l: f"{l['best_s']:.2f} s, disk {l['disk_bytes_per_s'] / 1e9:.2f} GB/s",
    ),
}


def machine():
    name = platform.processor()
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.lower().startswith(("model name", "cpu part")):
            name = line.partition(":")[2].strip()
            break
    return {"device": name, "cores": len(os.sched_getaffinity(0))}


def commit():
    try:
        head = run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"]).strip()
        return head + ("-dirty" if run(["git", "-C", ROOT, "status", "--porcelain", "--untracked-files=no", "src"]).strip() else "")
    except (Failed, OSError):
        return ""


def measure_row(args, name, facts):
    row = ROWS[name]
    try:
        line = row.measure(args, row.model)
    except (Failed, OSError, RuntimeError) as error:
        print(f"{row.title}: FAILED: {error}", flush=True)
        return False
    bars, good = [], True
    for what, reached, must, met in row.bars(line):
        verdict = {True: "yes", False: "NO", None: "-"}[met if met is None else bool(met)]
        bars.append({"what": what, "reached": reached, "must": must, "met": verdict})
        good = good and verdict != "NO"
        print(f"{row.title:<42} {what:<24} {reached:<24} {must:<26} {verdict}", flush=True)
    detail = row.text(line)
    if detail:
        print(f"    {detail}", flush=True)
    with args.out.open("a") as out:
        out.write(json.dumps({"bench": "peers", "row": name, "model": row.model} | facts | line | {"bars": bars}) + "\n")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--donar", type=pathlib.Path, default=ROOT / "build" / "donar", help="bench_serve lies beside it")
    parser.add_argument("--peer", type=pathlib.Path, help="folder of llama-bench, as llama_cpp.sh prints it")
    parser.add_argument("--peer-without-amx", type=pathlib.Path, help="a second one to stand beside")
    parser.add_argument("--models", type=pathlib.Path, default=ROOT / ".cache" / "peers" / "models")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=2, help="timed runs of each program in a round")
    parser.add_argument("--out", type=pathlib.Path, default=HERE.parent / "results" / f"cpu-{platform.machine()}.jsonl")
    parser.add_argument("--prefix", type=str.split, default=[], help="words ahead of each benchmark program: \"numactl -N 0 -m 0\"")
    parser.add_argument("--commit", help="that donar was built from (this checkout's)")
    parser.add_argument("--list", action="store_true", help="names of the rows")
    parser.add_argument("rows", nargs="*", metavar="ROW")
    args = parser.parse_args()
    if args.list:
        for name, row in ROWS.items():
            print(f"{name:<18} {row.title}")
        return 0
    unknown = [name for name in args.rows if name not in ROWS]
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    if args.peer is None:
        parser.error("--peer: the folder that bench/peers/llama_cpp.sh prints")
    for program in (args.donar, args.donar.parent / "bench_serve", args.peer / "llama-bench"):
        if not program.exists():
            parser.error(f"no {program}: bench/peers/run.sh builds everything")
    args.donar = args.donar.resolve()
    facts = machine() | {"threads": args.threads, "commit": args.commit or commit(), "date": datetime.date.today().isoformat()}
    print(f"{facts['device']}, {facts['cores']} cores, {args.threads} threads, commit {facts['commit'] or 'unknown'}", flush=True)
    good = [measure_row(args, name, facts) for name in args.rows or ROWS]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""One real model on the CPU and on the GPU of this machine, teacher-forced over the same text: top-1 agreement and mean
|difference of logprobs|. Standard library only; called by run.sh.

With --device-flags the second server may be told anything, so that two ways of one device are compared too:
  compare_devices.py --donar D --model M --text T --reference-flags '--enforce-eager' --device cuda"""

import argparse
import json
import pathlib
import sys

from server import Server

TOP_LIMIT, MEAN_LIMIT = 0.99, 0.02
WINDOW = 500  # tokens of one request


def logprobs(args, device, flags, log):
    """[{token: logprob}] and [most likely token] over all positions but the first of each window."""
    out = []
    command = [args.model, "--device", device, "--max-model-len", WINDOW + 8, *flags.split()]
    with Server(args.donar, command, args.out / log) as server:
        name = str(args.model)
        text = args.text.read_text(errors="ignore")
        tokens = server.post("/tokenize", {"model": name, "prompt": text})["tokens"][: args.tokens]
        for begin in range(0, len(tokens), WINDOW):
            ids = tokens[begin : begin + WINDOW]
            body = {"model": name, "prompt": ids, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 1}
            for position in server.complete(body)["choices"][0]["prompt_logprobs"][1:]:
                entries = {int(token): entry["logprob"] for token, entry in position.items()}
                out.append((entries, next(int(t) for t, entry in position.items() if entry["rank"] == 1)))
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--donar", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--reference", default="cpu")
    parser.add_argument("--reference-flags", default="--dtype float32 --kv-cache-dtype float32")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--device-flags", default="")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    expected = logprobs(args, args.reference, args.reference_flags, "devices-reference.log")
    found = logprobs(args, args.device, args.device_flags, "devices.log")
    assert len(expected) == len(found) > 0
    same = sum(a[1] == b[1] for a, b in zip(expected, found)) / len(found)
    pairs = [(a[0][t], b[0][t]) for a, b in zip(expected, found) for t in a[0].keys() & b[0].keys()]
    mean = sum(abs(x - y) for x, y in pairs) / len(pairs)
    good = same >= TOP_LIMIT and mean <= MEAN_LIMIT
    line = {"bench": "compare_devices", "model": args.model.name, "positions": len(found), "top_1": same, "mean_difference": mean}
    with (args.out / "compare.jsonl").open("a") as file:
        file.write(json.dumps(line | {"passed": good}) + "\n")
    print(
        f"{args.model.name}: {args.reference} {args.reference_flags} against {args.device} {args.device_flags}, {len(found)} positions: "
        f"top-1 {same:.2%} (>= {TOP_LIMIT:.0%}), mean |d logprob| {mean:.4f} (<= {MEAN_LIMIT})  {'ok' if good else 'FAILED'}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

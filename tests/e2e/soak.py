"""The soak test: many clients with random requests, some of which abort or vanish. The last line is `N passed, N failed`.

Checks: no crash and exit code 0 (so no finding of a sanitizer either), every answer whole or an expected refusal, all KV blocks home at
the end, and memory that stops growing. Works against any build of the server.
Usage: soak.py --donar build/donar [--model PATH] [--requests 500] [--clients 32] [--seed 1]
"""

import argparse
import asyncio
import json
import pathlib
import random
import sys
import time

from server import MODEL, DonarServer

WORDS = "time year people way day man thing woman life child world school state family group hand part place".split()
OUTCOMES = ("finished", "streamed", "aborted", "vanished", "refused")


def make_body(rng):
    prompt = " ".join(rng.choice(WORDS) for _ in range(int(rng.lognormvariate(3.2, 1.3)) + 1))[:6000]
    if rng.random() < 0.3:
        prompt = "A long common beginning that many requests share, so that the prefix cache has work to do. " * 3 + prompt
    body = {"model": MODEL, "max_tokens": rng.choice([1, 2, 8, 32, 64, 128]), "temperature": rng.choice([0, 0.7, 1.0])}
    body |= rng.choice([{}, {"top_k": 20}, {"top_p": 0.9, "min_p": 0.02}, {"repetition_penalty": 1.1}, {"seed": rng.randrange(100)}])
    body |= rng.choice([{}, {}, {"n": 2}, {"stop": ["the", "\n"]}, {"ignore_eos": True}, {"min_tokens": 1}])
    chat = rng.random() < 0.7
    if rng.random() < 0.15:
        body |= {"logprobs": True, "top_logprobs": 2} if chat else {"logprobs": 2}
    if chat:
        return "/v1/chat/completions", body | {"messages": [{"role": "user", "content": prompt}]}
    return "/v1/completions", body | {"prompt": prompt}


async def read_head(reader):
    status = int((await reader.readline()).split()[1])
    headers = {}
    while line := (await reader.readline()).strip().decode():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return status, headers


async def read_body(reader, headers, stop_after=None):
    """The whole body, or what came until `stop_after` bytes."""
    body = b""
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
            if stop_after is not None and len(body) >= stop_after:
                return body
        await reader.readline()
        return body
    while data := await reader.read(4096):
        body += data
        if stop_after is not None and len(body) >= stop_after:
            return body
    return body


async def one_request(port, rng):
    """How it ended, one of OUTCOMES; raises if it ended otherwise."""
    path, body = make_body(rng)
    fate = rng.choices(["whole", "stream", "abort", "vanish"], [3, 4, 2, 1])[0]
    body["stream"] = fate in ("stream", "abort")
    data = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        await writer.drain()
        if fate == "vanish":
            await asyncio.sleep(rng.random() * 0.3)
            writer.transport.abort()  # a reset, not a goodbye
            return "vanished"
        status, headers = await read_head(reader)
        if status == 429:
            await read_body(reader, headers)
            return "refused"
        if status != 200:
            raise AssertionError(f"{status} for {body}: {await read_body(reader, headers)}")
        if fate == "abort":
            await read_body(reader, headers, stop_after=rng.randrange(1, 3000))
            return "aborted"
        text = (await read_body(reader, headers)).decode()
        if fate == "whole":
            choices = json.loads(text)["choices"]
            assert len(choices) == body.get("n", 1) and all(c["finish_reason"] in ("stop", "length") for c in choices), text
            return "finished"
        events = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
        finishes = [c["finish_reason"] for e in events[:-1] for c in json.loads(e).get("choices", []) if c.get("finish_reason")]
        assert events[-1] == "[DONE]" and len(finishes) == body.get("n", 1), text[-2000:]
        return "streamed"
    finally:
        writer.close()


def resident_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


async def soak(server, options):
    counts = dict.fromkeys(OUTCOMES, 0)
    errors, resident = [], []
    numbers = iter(range(options.requests))

    async def client():
        for number in numbers:
            try:
                counts[await asyncio.wait_for(one_request(server.port, random.Random(f"{options.seed}/{number}")), options.timeout)] += 1
            except Exception as error:  # noqa: BLE001 - counted and shown
                errors.append(f"request {number}: {type(error).__name__}: {error}")
            resident.append(resident_bytes(server.process.pid))

    await asyncio.gather(*(client() for _ in range(options.clients)))
    return counts, errors, resident


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--donar", default="build/donar")
    parser.add_argument("--model", default=None)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seed", default="1")
    # Beyond what the first half of the run took: caches and pools fill, then nothing may grow.
    parser.add_argument("--rss-allowance", type=int, default=48, help="MiB that memory may grow by; sanitizers need more")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one request")
    options = parser.parse_args()
    checks = []

    def check(name, good, detail=""):
        checks.append(bool(good))
        print(f"{'ok  ' if good else 'FAIL'} {name}{': ' if detail else ''}{detail}", flush=True)

    # A cache that is too small for 16 sequences at once, so that preemption and eviction happen; the inbox holds all clients.
    server = DonarServer(
        options.donar, "--max-model-len", "2048", "--kv-cache-memory-bytes", "48M", "--max-num-seqs", "16", model=options.model
    )
    began = time.monotonic()
    try:
        counts, errors, resident = asyncio.run(soak(server, options))
        took = time.monotonic() - began
        check("every request ended as it should", not errors, "; ".join(errors[:3]))
        check(f"{options.requests} requests by {options.clients} clients in {took:.0f} s", sum(counts.values()) + len(errors) == options.requests, str(counts))
        check("each kind of ending happened", all(counts[k] for k in OUTCOMES[:4]))
        check("the server is alive", server.process.poll() is None)
        metrics = server.await_idle(seconds=60)
        check("all KV blocks are home", metrics["vllm:kv_cache_usage_perc"] == 0)
        early = max(resident[: max(1, len(resident) // 10)] + resident[len(resident) // 2 - 5 : len(resident) // 2])
        late = max(resident[-20:])
        check("memory is flat", late - early <= options.rss_allowance << 20, f"{early >> 20} MiB, at the end {late >> 20} MiB")
        print(f"preemptions {metrics['vllm:num_preemptions_total']:.0f}, tokens {metrics['vllm:generation_tokens_total']:.0f}, "
              f"prefix hits {metrics['vllm:prefix_cache_hits_total']:.0f}")
    except Exception as error:  # noqa: BLE001 - a dead server must still be reported with its log
        check("the run", False, f"{type(error).__name__}: {error}")
    code = None
    try:
        code = server.stop()
    except RuntimeError as error:
        print(error)
    check("exit code 0", code == 0, str(code))
    log = server.log()
    check("no sanitizer finding", "Sanitizer" not in log and "runtime error:" not in log)
    if not all(checks):
        print(f"--- the server's log\n{log[-6000:]}")
    print(f"{sum(checks)} passed, {len(checks) - sum(checks)} failed")
    return 0 if all(checks) else 1


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Donar against transformers: random small models of every family, written to disk as BF16 checkpoints. The reference computes
in FP32 from the same BF16 weights; Donar is asked through its server. What 16-bit arithmetic may cost is what it costs
transformers itself when it computes in BF16. Wants torch and transformers; called by run.sh.

For each model, teacher-forced: mean |difference of logprobs| over the prompts' tokens and their top entries, and how often the
most likely token is the same. Then greedy: the tokens that Donar chooses must be, at every step, within a margin of the
reference's best."""

import argparse
import json
import pathlib
import sys
import tempfile

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

import make_model
from server import Server

LENGTHS = [1, 7, 63, 64, 65, 130, 257, 900]
GREEDY_LENGTHS = [3, 40, 77, 300]
GREEDY_TOKENS = 64
MEAN_FACTOR, TOP_SLACK, MARGIN_LIMIT = 1.0, 0.0, 0.15  # of transformers' own BF16 error; logits
TOP = 5

BASE = {"hidden_act": "silu", "max_position_embeddings": 2048, "initializer_range": 0.06, "rms_norm_eps": 1e-5}
LLAMA3_ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3_ROPE |= {"original_max_position_embeddings": 512}


def config(kind, dim, ffn, layers, heads, kv_heads, vocab, **more):
    sizes = {"hidden_size": dim, "intermediate_size": ffn, "num_hidden_layers": layers, "vocab_size": vocab}
    sizes |= {"num_attention_heads": heads, "num_key_value_heads": kv_heads}
    ids = {"bos_token_id": vocab - 64, "eos_token_id": vocab - 63}
    return kind, BASE | sizes | ids | {"tie_word_embeddings": False} | more


MODELS = {
    "llama, llama3 rope, tied": config("llama", 512, 1376, 4, 8, 2, 4096, tie_word_embeddings=True, rope_scaling=LLAMA3_ROPE),
    "llama, head 256": config("llama", 512, 1000, 3, 2, 1, 3000, head_dim=256),
    "qwen2, 7 heads a group": config("qwen2", 896, 2432, 4, 14, 2, 5003),
    "qwen3, head 128": config("qwen3", 512, 1536, 4, 8, 2, 4096, head_dim=128),
    "mistral, window 48, head 80": config("mistral", 640, 1792, 4, 8, 4, 4096, sliding_window=48, head_dim=80),
}


def write_model(kind, fields, out, seed):
    torch.manual_seed(seed)
    made = AutoConfig.for_model(kind, **fields)
    model = AutoModelForCausalLM.from_config(made, attn_implementation="eager").to(torch.bfloat16)
    with torch.no_grad():  # what starts as one or zero would hide a norm or a bias that is left out
        for name, value in model.named_parameters():
            if "norm" in name:
                value.copy_(1 + 0.2 * torch.randn_like(value))
            elif name.endswith(".bias"):
                value.copy_(0.3 * torch.randn_like(value))
    model.save_pretrained(out)
    make_model.write_tokenizer(out, fields)


def read_model(folder, dtype, device):
    """Read again: what is no weight, as the frequencies of rotation, was never rounded to BF16."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager")
    return model.to(device).eval()


def reference(model, ids, device):
    with torch.no_grad():
        logits = model(torch.tensor([ids], device=device), use_cache=False).logits[0]
    return torch.log_softmax(logits.double(), dim=-1).cpu()


class Errors:
    """Of log probabilities against the reference's, over the positions of prompts."""

    def __init__(self):
        self.differences, self.same, self.positions = [], 0, 0

    def add(self, entries, first, row):
        """entries: {token: logprob}; first: the most likely token; row: the reference."""
        self.differences += [abs(logprob - float(row[token])) for token, logprob in entries.items()]
        best = int(row.argmax())
        # Two tokens that the reference itself can hardly tell apart are no disagreement.
        self.same += first == best or float(row[best] - row[first]) < 1e-3
        self.positions += 1

    @property
    def mean(self):
        return sum(self.differences) / len(self.differences)

    @property
    def top(self):
        return self.same / self.positions


def teacher_forced(server, name, model, half, prompts, device):
    ours, theirs = Errors(), Errors()
    for ids in prompts:
        body = {"model": name, "prompt": ids, "max_tokens": 1, "temperature": 0, "prompt_logprobs": TOP, "ignore_eos": True}
        answer = server.complete(body)["choices"][0]["prompt_logprobs"]
        expected, rounded = reference(model, ids, device), reference(half, ids, device)
        for i in range(1, len(ids)):
            entries = {int(token): entry["logprob"] for token, entry in answer[i].items()}
            first = next(int(token) for token, entry in answer[i].items() if entry["rank"] == 1)
            ours.add(entries, first, expected[i - 1])
            top = rounded[i - 1].topk(TOP).indices.tolist()
            entries = {token: float(rounded[i - 1][token]) for token in {*top, ids[i]}}
            theirs.add(entries, top[0], expected[i - 1])
    return ours, theirs


def greedy(server, name, model, prompts, device):
    body = {"model": name, "prompt": prompts, "max_tokens": GREEDY_TOKENS, "temperature": 0, "ignore_eos": True}
    choices = server.complete(body | {"logprobs": 0, "return_tokens_as_token_ids": True})["choices"]
    worst, exact = 0.0, 0
    for ids, choice in zip(prompts, sorted(choices, key=lambda choice: choice["index"])):
        tokens = [int(token.removeprefix("token_id:")) for token in choice["logprobs"]["tokens"]]
        assert len(tokens) == GREEDY_TOKENS, f"{len(tokens)} tokens came"
        expected = reference(model, ids + tokens, device)
        for i, token in enumerate(tokens):
            row = expected[len(ids) + i - 1]
            worst = max(worst, float(row.max() - row[token]))
            exact += token == int(row.argmax())
    return worst, exact / (len(prompts) * GREEDY_TOKENS)


def compare(args, title, kind, fields, folder, seed):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    write_model(kind, fields, folder, seed)
    model, half = (read_model(folder, dtype, device) for dtype in (torch.float32, torch.bfloat16))
    generator = torch.Generator().manual_seed(seed)

    def prompts(lengths):
        return [torch.randint(0, fields["bos_token_id"], (n,), generator=generator).tolist() for n in lengths]

    flags = ["--device", args.device, "--max-model-len", 2048, *args.donar_flags.split()]
    with Server(args.donar, [folder, *flags], args.out / f"compare-{kind}.log") as server:
        ours, theirs = teacher_forced(server, str(folder), model, half, prompts(LENGTHS), device)
        margin, exact = greedy(server, str(folder), model, prompts(GREEDY_LENGTHS), device)
    good = ours.mean <= MEAN_FACTOR * theirs.mean and ours.top >= theirs.top - TOP_SLACK and margin <= MARGIN_LIMIT
    line = {"bench": "compare_torch", "model": title, "positions": ours.positions, "passed": good}
    line |= {"mean_difference": ours.mean, "max_difference": max(ours.differences), "top_1": ours.top}
    line |= {"torch_bf16_mean_difference": theirs.mean, "torch_bf16_top_1": theirs.top}
    line |= {"greedy_margin": margin, "greedy_same": exact}
    with (args.out / "compare.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(
        f"{title:<28} mean |d logprob| {ours.mean:.4f} (torch in BF16 {theirs.mean:.4f}), top-1 {ours.top:.2%} ({theirs.top:.2%}); "
        f"greedy: {exact:.1%} the same, margin {margin:.3f}  {'ok' if good else 'FAILED'}",
        flush=True,
    )
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--donar", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--donar-flags", default="", help="more flags of `donar serve`, in one word")
    parser.add_argument("--only", default="", help="models whose title holds this")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    logging.disable_progress_bar()
    torch.backends.cuda.matmul.allow_tf32 = False
    passed = failed = 0
    for seed, (title, (kind, fields)) in enumerate(MODELS.items()):
        if args.only not in title:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                good = compare(args, title, kind, fields, pathlib.Path(folder), seed)
            except (RuntimeError, OSError, AssertionError) as error:
                print(f"{title}: {error}", flush=True)
                good = False
        passed, failed = passed + good, failed + (not good)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

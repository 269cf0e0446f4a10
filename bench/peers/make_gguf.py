#!/usr/bin/env python3
"""Writes a GGUF file of a Llama's true shape in BF16, with made-up weights and a made-up byte-level BPE tokenizer of the true size, for
benchmarks without a download. The same seed gives the same bytes. Standard library only.

  make_gguf.py CONFIG_DIR OUT.gguf       CONFIG_DIR holds a config.json of model_type llama (../gpu/models has some)
"""

import argparse
import array
import json
import math
import pathlib
import random
import statistics
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "gpu"))
from make_model import SPECIAL, TEMPLATE, vocabulary  # noqa: E402

SEED = 1
STD = 0.02  # as models are initialized: activations and logits stay near 1
ALIGNMENT = 32
F32, BF16 = 0, 30
FILE_TYPE_BF16 = 32
# Values repeat after this many. It is a prime, so that no two rows of a matrix are the same.
PERIOD = 8388593


class Metadata:
    """Key-value pairs in the file's encoding."""

    def __init__(self):
        self.count, self.data = 0, bytearray()

    @staticmethod
    def text(value):
        raw = value.encode()
        return struct.pack("<Q", len(raw)) + raw

    def _add(self, key, kind, raw):
        self.count += 1
        self.data += self.text(key) + struct.pack("<I", kind) + raw

    def u32(self, key, value):
        self._add(key, 4, struct.pack("<I", value))

    def f32(self, key, value):
        self._add(key, 6, struct.pack("<f", value))

    def flag(self, key, value):
        self._add(key, 7, struct.pack("<?", value))

    def string(self, key, value):
        self._add(key, 8, self.text(value))

    def strings(self, key, values):
        self._add(key, 9, struct.pack("<IQ", 8, len(values)) + b"".join(map(self.text, values)))

    def i32s(self, key, values):
        self._add(key, 9, struct.pack("<IQ", 5, len(values)) + struct.pack(f"<{len(values)}i", *values))


def metadata(config, name):
    out = Metadata()
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    out.string("general.architecture", "llama")
    out.string("general.name", name)
    out.u32("general.file_type", FILE_TYPE_BF16)
    out.u32("llama.context_length", config["max_position_embeddings"])
    out.u32("llama.embedding_length", config["hidden_size"])
    out.u32("llama.block_count", config["num_hidden_layers"])
    out.u32("llama.feed_forward_length", config["intermediate_size"])
    out.u32("llama.attention.head_count", config["num_attention_heads"])
    out.u32("llama.attention.head_count_kv", config["num_key_value_heads"])
    out.u32("llama.attention.key_length", head)
    out.u32("llama.attention.value_length", head)
    out.f32("llama.attention.layer_norm_rms_epsilon", config["rms_norm_eps"])
    out.f32("llama.rope.freq_base", config["rope_theta"])
    out.u32("llama.rope.dimension_count", head)
    out.u32("llama.vocab_size", config["vocab_size"])
    begin = min(config["bos_token_id"], config["vocab_size"] - len(SPECIAL))
    tokens, merges = vocabulary(begin)
    tokens = tokens + SPECIAL + [f"<|reserved_{i}|>" for i in range(config["vocab_size"] - begin - len(SPECIAL))]
    out.string("tokenizer.ggml.model", "gpt2")
    out.string("tokenizer.ggml.pre", "llama-bpe")
    out.strings("tokenizer.ggml.tokens", tokens)
    out.i32s("tokenizer.ggml.token_type", [1] * begin + [3] * (len(tokens) - begin))
    out.strings("tokenizer.ggml.merges", merges)
    out.u32("tokenizer.ggml.bos_token_id", begin)
    out.u32("tokenizer.ggml.eos_token_id", begin + 1)
    out.flag("tokenizer.ggml.add_bos_token", False)
    out.string("tokenizer.chat_template", TEMPLATE)
    return out


def rope_divisors(config):
    """What llama3 scaling divides each frequency by; none without it."""
    scaling = config.get("rope_scaling")
    if not scaling:
        return None
    if scaling["rope_type"] != "llama3":
        sys.exit(f"rope scaling {scaling['rope_type']} has no place in a GGUF file of this script; llama3 has")
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    context, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    out = []
    for i in range(head // 2):
        turns = context / (2 * math.pi * config["rope_theta"] ** (2 * i / head))
        smooth = min(1.0, max(0.0, (turns - low) / (high - low)))
        out.append(1 / ((1 - smooth) / factor + smooth))
    return out


def tensors(config):
    """Name, dimensions (fastest first), type."""
    dim, ffn = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or dim // config["num_attention_heads"]
    q, kv = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    yield "token_embd.weight", [dim, config["vocab_size"]], BF16
    if not config.get("tie_word_embeddings"):
        yield "output.weight", [dim, config["vocab_size"]], BF16
    yield "output_norm.weight", [dim], F32
    if config.get("rope_scaling"):
        yield "rope_freqs.weight", [head // 2], F32
    for i in range(config["num_hidden_layers"]):
        layer = f"blk.{i}."
        yield layer + "attn_norm.weight", [dim], F32
        yield layer + "attn_q.weight", [dim, q], BF16
        yield layer + "attn_k.weight", [dim, kv], BF16
        yield layer + "attn_v.weight", [dim, kv], BF16
        yield layer + "attn_output.weight", [q, dim], BF16
        yield layer + "ffn_norm.weight", [dim], F32
        yield layer + "ffn_gate.weight", [dim, ffn], BF16
        yield layer + "ffn_up.weight", [dim, ffn], BF16
        yield layer + "ffn_down.weight", [ffn, dim], BF16


def made_up_values():
    """PERIOD values of a normal distribution, as the bytes of BF16."""
    normal = statistics.NormalDist(0.0, STD)
    table = []
    for i in range(65536):
        bits = struct.unpack("<I", struct.pack("<f", normal.inv_cdf((i + 0.5) / 65536)))[0]
        table.append((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)
    noise = array.array("H", random.Random(SEED).randbytes(2 * PERIOD))
    values = array.array("H", map(table.__getitem__, noise))
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def padding(size):
    return bytes(-size % ALIGNMENT)


def write(config, name, path):
    listed = list(tensors(config))
    head = metadata(config, name)
    infos, end = bytearray(), 0
    for name, dims, kind in listed:
        infos += Metadata.text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, end)
        size = math.prod(dims) * (2 if kind == BF16 else 4)
        end += size + len(padding(size))
    start = b"GGUF" + struct.pack("<IQQ", 3, len(listed), head.count) + head.data + infos
    values = memoryview(made_up_values())
    at = 0  # in values, never rewound: each tensor goes on where the last one stopped
    with open(path, "wb") as file:
        file.write(start + padding(len(start)))
        for name, dims, kind in listed:
            count = math.prod(dims)
            if kind == F32:
                numbers = rope_divisors(config) if name == "rope_freqs.weight" else [1.0] * count
                file.write(struct.pack(f"<{count}f", *numbers) + padding(4 * count))
                continue
            left = 2 * count
            while left > 0:
                piece = values[at : at + left]
                file.write(piece)
                left -= len(piece)
                at = (at + len(piece)) % len(values)
            file.write(padding(2 * count))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    config = json.loads((args.config / "config.json").read_text())
    if config["model_type"] != "llama":
        sys.exit(f"{args.config}/config.json is of model_type {config['model_type']}; this script writes llama files")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write(config, args.config.resolve().name, args.out)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Completes a directory that holds only config.json, for benchmarks without a download. Standard library only.

  make_model.py CONFIG_DIR OUT           config.json and a made-up byte-level BPE tokenizer with as many tokens and merges
                                         as the vocabulary has (loading it costs what loading a real one costs)
  make_model.py CONFIG_DIR OUT --weights also model.safetensors of the true shapes, in BF16, with made-up values
"""

import argparse
import json
import pathlib
import random
import shutil
import struct

SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BLOCK = 1 << 24  # bytes of made-up values that repeat


def byte_characters():
    """The characters that stand for the 256 bytes in byte-level vocabularies."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(rest))]


def vocabulary(size):
    """Bytes, then merges of letters up to 8 long, each of two earlier tokens."""
    tokens = byte_characters()
    known, merges, rng = set(tokens), [], random.Random(0)
    space = chr(0x120)  # stands for it
    parts = [*"abcdefghijklmnopqrstuvwxyz", space]
    while len(tokens) < size:
        left, right = rng.choice(parts), rng.choice(parts)
        token = left + right
        if token in known or right[0] == space:
            continue
        known.add(token)
        tokens.append(token)
        merges.append(f"{left} {right}")
        if len(token) <= 4:
            parts.append(token)
    return tokens, merges


def write_tokenizer(out, config):
    # Special tokens stand where the model's own begin-of-text id is, if it has one.
    begin = config.get("bos_token_id") or config["vocab_size"] - len(SPECIAL)
    begin = min(begin, config["vocab_size"] - len(SPECIAL))
    tokens, merges = vocabulary(begin)
    names = SPECIAL + [f"<|reserved_{i}|>" for i in range(config["vocab_size"] - begin - len(SPECIAL))]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None}
    model |= {"fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    model |= {"vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges}
    tokenizer = {"version": "1.0", "truncation": None, "padding": None}
    tokenizer["added_tokens"] = [{"id": begin + i, "content": name} | flags for i, name in enumerate(names)]
    tokenizer |= {"normalizer": None, "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level, "model": model}
    (out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL[0], "eos_token": SPECIAL[1]}
    (out / "tokenizer_config.json").write_text(json.dumps(names | {"chat_template": TEMPLATE}, indent=2))


def shapes(config):
    dim, ffn = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or dim // config["num_attention_heads"]
    q, kv = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    yield "model.embed_tokens.weight", [config["vocab_size"], dim]
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        yield layer + "input_layernorm.weight", [dim]
        for name, rows in (("q", q), ("k", kv), ("v", kv)):
            yield layer + f"self_attn.{name}_proj.weight", [rows, dim]
            if config["model_type"] == "qwen2":
                yield layer + f"self_attn.{name}_proj.bias", [rows]
        yield layer + "self_attn.o_proj.weight", [dim, q]
        yield layer + "post_attention_layernorm.weight", [dim]
        for name, shape in (("gate", [ffn, dim]), ("up", [ffn, dim]), ("down", [dim, ffn])):
            yield layer + f"mlp.{name}_proj.weight", shape
    yield "model.norm.weight", [dim]
    if not config.get("tie_word_embeddings"):
        yield "lm_head.weight", [config["vocab_size"], dim]


def write_weights(out, config):
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes(config):
        size = 2
        for n in shape:
            size *= n
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    # BF16 of random sign and mantissa, magnitude 2^-6 to 2^-5: 0x3c80 | 0x8000 s | m.
    noise = random.Random(1).randbytes(BLOCK)
    block = bytearray(noise)
    block[0::2] = bytes(b | 0x80 for b in noise[0::2])
    block[1::2] = bytes((b & 0x80) | 0x3C for b in noise[1::2])
    with open(out / "model.safetensors", "wb", buffering=0) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for begin in range(0, end, BLOCK):
            file.write(memoryview(block)[: min(BLOCK, end - begin)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--weights", action="store_true")
    args = parser.parse_args()
    config = json.loads((args.config / "config.json").read_text())
    args.out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(args.config / "config.json", args.out / "config.json")
    write_tokenizer(args.out, config)
    if args.weights:
        write_weights(args.out, config)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Compares Donar's tokenizer with the reference library on random Unicode strings, and times it.

usage: check_tokenizer.py TOKENIZER_DUMP PATH... [--strings N] [--seed N] [--time]
PATH is a directory with tokenizer.json, or a byte-level GGUF file (rebuilt for the reference from its tokens and merges).
Needs the Python packages tokenizers and, for GGUF files, gguf. Exits with 1 on any difference.
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys

import tokenizers

POOLS = [
    "abcXYZ 019'\n\t.,!?/-_", "àéîõüßñçÉÀ ʼ'’ſ", "日本語中文한국어 。、「」", "абвгд АБВ ё ЁЙ", "🦙👍🏽❤️\u200d 🇨🇭",
    "\u0300\u0301\u0323\u0327a e\u00a0\u2009 \r\n", "'s't're've'm'll'd'S'LL ", "   \n\r\t\u0085\u2028\u3000x",
    "٣٤५६½²Ⅷ①0123", "ǅǈʰᵃªºAaBb", "<|im_start|>[INST]</s><0x0A>▁Ġ", "नमस्ते दुनिया สวัสดี", "{}[]()<>=+*&^%$#@!~`|\\\"';:/",
]


def random_text(rng):
    mode = rng.random()
    length = rng.randint(1, 60)
    if mode < 0.15:  # any code point but surrogates
        return "".join(chr(rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000), rng.randrange(0x3000)])) for _ in range(length))
    if mode < 0.3:  # runs
        return "".join(rng.choice(rng.choice(POOLS)) * rng.randint(1, 9) for _ in range(rng.randint(1, 12)))
    pool = rng.choice(POOLS)
    return "".join(rng.choice(rng.choice(POOLS) if rng.random() < 0.3 else pool) for _ in range(length))


def from_gguf(path):
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    strings = lambda key: [bytes(fields[key].parts[i]).decode() for i in fields[key].data]
    tokens, merges = strings("tokenizer.ggml.tokens"), strings("tokenizer.ggml.merges")
    kinds = [int(fields["tokenizer.ggml.token_type"].parts[i][0]) for i in fields["tokenizer.ggml.token_type"].data]
    tok = tokenizers.Tokenizer(tokenizers.models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges]))
    pre = tokenizers.pre_tokenizers
    if strings("tokenizer.ggml.pre") != ["smollm"]:
        sys.exit(f"{path}: only the split pattern smollm is known here")
    tok.pre_tokenizer = pre.Sequence([pre.Digits(True), pre.ByteLevel(add_prefix_space=False)])
    tok.decoder = tokenizers.decoders.ByteLevel()
    tok.add_special_tokens([tokenizers.AddedToken(t, special=True, normalized=False) for t, k in zip(tokens, kinds) if k == 3])
    return tok


class Dump:
    def __init__(self, binary, path):
        self.process = subprocess.Popen([binary, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit("tokenizer_dump ended")
        return json.loads(line)


def compare(args, path):
    path = pathlib.Path(path)
    reference = from_gguf(path) if path.suffix == ".gguf" else tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
    ours = Dump(args.dump, str(path))
    rng = random.Random(args.seed)
    specials = [t.content for t in reference.get_added_tokens_decoder().values()]
    size = reference.get_vocab_size()
    bad = 0

    def differs(what, given, expected, got):
        nonlocal bad
        bad += 1
        if bad <= args.show:
            print(f"  {what} {given!r}\n    reference {expected}\n    donar     {got}")

    for _ in range(args.strings):
        text = random_text(rng)
        if specials and rng.random() < 0.2:
            at = rng.randint(0, len(text))
            text = text[:at] + rng.choice(specials) + text[at:]
        expected = reference.encode(text, add_special_tokens=False).ids
        got = ours(encode=text)
        if expected != got:
            differs("encode", text, expected, got)
        ids = expected if rng.random() < 0.5 else [rng.randrange(size) for _ in range(rng.randint(0, 12))]
        skip = rng.random() < 0.5
        expected = reference.decode(ids, skip_special_tokens=skip)
        got = ours(decode=ids, skip=skip)
        if expected != got:
            differs("decode", ids, expected, got)
    print(f"{path}: {args.strings} strings, {bad} differences")
    return bad


def time_it(args, path):
    ours = Dump(args.dump, str(path))
    english = "The quick brown fox jumps over 13 lazy dogs; it's 4:05 pm, isn't it?\n\nfor (int i = 0; i < n; ++i) sum += a[i];\n"
    texts = {
        "English and code": english * 1000, "Chinese": "你好，世界！这是一个很长的句子，用来测试分词器的速度。" * 2000, "Russian": "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 1000,
        "one letter": "a" * 100_000, "one CJK letter": "語" * 33_000, "spaces": " " * 100_000, "newlines": "\n" * 100_000, "digits": "7" * 100_000,
        "random letters": "".join(random.Random(1).choice("abcdefghijklmnopqrstuvwxyz") for _ in range(100_000)), "combining marks": "a" + "\u0301\u0323" * 25_000,
        "dots": "." * 100_000, "<": "<|" * 50_000, "emoji": "👍🏽" * 12_500, "upper case": "Aa" * 50_000, "letters with marks": "e\u0301" * 33_000,
    }
    for name, text in texts.items():
        text = text.encode()[:100_000].decode(errors="ignore")
        print(f"  {name:20s} {ours(time=text):8.2f} ms")


parser = argparse.ArgumentParser()
parser.add_argument("dump")
parser.add_argument("paths", nargs="+")
parser.add_argument("--strings", type=int, default=2000)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--show", type=int, default=5)
parser.add_argument("--time", action="store_true", help="also time 100 kB texts")
arguments = parser.parse_args()
failed = sum(compare(arguments, p) for p in arguments.paths)
if arguments.time:
    for p in arguments.paths:
        time_it(arguments, p)
sys.exit(1 if failed else 0)

#!/usr/bin/env python3
"""Writes tests/data/text/tokenizer_cases.json: small tokenizers that cover every component, with the ids and texts that
the reference library (Python package tokenizers) gives.

usage: make_tokenizer_cases.py > tests/data/text/tokenizer_cases.json

{"models": {name: "model" section},
 "tokenizers": [{"name", "model": name, "json": the other sections,
                 "cases": [{"text", "ids", "special": ids with special tokens, "text_out", "text_skip"}]}],
 "refused": [{"name", "json", "part": what the message must name}]}
"""
import copy
import json
import sys

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

CORPUS = [
    "the quick brown fox jumps over the lazy dog", "she said: it's 12345 times better, isn't it?", "hello hello world, hello there",
    "aaa aaaa aaaaa bbb bab aba", "für die Größe naïve café", "日本語 日本 語の テスト", "x = y + 1; // done\n\treturn x\n", "1 22 333 4444 55555",
    "привет мир, привет", "l'été d'hiver 're 'll 've", "  two  spaces   three", "a\u0301 e\u0301 \ufb01", "emoji 🦙 👍🏽 ok",
]
TEXTS = [
    "", " ", "  ", "hello", " hello world", "Hello  WORLD ", "\n\n x\t\n", "it's 12345 I'LL we're", "日本語のテスト", "e\u0301 \u00e9 \ufb01 \u212b \uac00\u1100\u1161",
    "🦙👍🏽", "a▁b ▁", "<s>x</s>", "<s> x <s>", "[TOK][TOK] a[TOK]b", "xLEFT  LEFT  y", "xRIGHT  yRIGHT  ", " wordword word, wordx (word) _word", "Mixed Case tOk",
    "1a22b333 ٣٤½Ⅷ", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "ab" * 30, "a-b--c---d -- e", "--a--", "\x00\x7f\u0085\u2028x", "<0x41><0x0A>", "zzz zq qz",
    "ΑΣ ÀÉ İ ǅ ẞ", "a\u0323\u0301\u0301\u0323", "word.word", "LEFTRIGHT  LEFT", "\u00a0nbsp\u3000wide",
]
ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}


def added(content, **flags):
    return {"id": -1, "content": content, **ADDED, **flags}


def train(model, trainer, pre, normalizer=None):
    tok = tokenizers.Tokenizer(model)
    tok.pre_tokenizer = pre
    if normalizer:
        tok.normalizer = normalizer
    tok.train_from_iterator(CORPUS, trainer)
    return json.loads(tok.to_str())["model"]


def bpe_byte_level():
    trainer = trainers.BpeTrainer(vocab_size=340, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    return train(models.BPE(), trainer, pre_tokenizers.ByteLevel(add_prefix_space=False))


def bpe_sentencepiece():
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=special, limit_alphabet=40, show_progress=False)
    model = train(models.BPE(unk_token="<unk>"), trainer, pre_tokenizers.Metaspace())
    return {**model, "byte_fallback": True, "fuse_unk": True}


def bpe_unknown(fuse):
    trainer = trainers.BpeTrainer(vocab_size=80, special_tokens=["<unk>"], limit_alphabet=25, show_progress=False)
    return {**train(models.BPE(unk_token="<unk>"), trainer, pre_tokenizers.Whitespace()), "fuse_unk": fuse}


def unigram(byte_fallback):
    trainer = trainers.UnigramTrainer(vocab_size=110, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False)
    model = train(models.Unigram(), trainer, pre_tokenizers.Metaspace())
    model["vocab"] = [[piece, round(score, 3)] for piece, score in model["vocab"]]
    if byte_fallback:
        model["vocab"] += [[f"<0x{b:02X}>", -20.0 if b % 2 else -20] for b in range(256)]
        model["byte_fallback"] = True
    return model


def without(vocab, *tokens):
    kept = [t for t in sorted(vocab, key=vocab.get) if t not in tokens]
    return {t: i for i, t in enumerate(kept)}


def legacy(model):  # merges as "a b", with the version line of old files
    return {**model, "merges": [" ".join(m) for m in model["merges"]], "ignore_merges": False}


byte = bpe_byte_level()
sentence = bpe_sentencepiece()
MODELS = {
    "byte": {**byte, "ignore_merges": False}, "byte_legacy": legacy(byte), "byte_whole": {**byte, "ignore_merges": True, "merges": byte["merges"][:20]},
    "sentence": sentence, "sentence_partial": {**sentence, "vocab": without(sentence["vocab"], "<0xE6>", "<0x42>")},
    "unknown": bpe_unknown(False), "unknown_fused": bpe_unknown(True), "no_unknown": {**bpe_unknown(False), "unk_token": None},
    "unigram": unigram(False), "unigram_bytes": unigram(True),
}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
BYTE_ONLY = {**BYTE_LEVEL, "use_regex": False}
LLAMA2_NORMALIZER = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
LLAMA2_DECODER = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
SPECIALS = [added("<s>", special=True), added("</s>", special=True)]
TOKENS = [added("[TOK]"), added("LEFT", lstrip=True), added("RIGHT", rstrip=True), added("word", single_word=True), added("Mixed Case", normalized=True), added("\u00e9", normalized=True)]


def template(before, after):
    piece = lambda t: {"SpecialToken": {"id": t, "type_id": 0}}
    ids = {"<s>": 1000001, "</s>": 1000002}  # replaced by real ids below
    return {"type": "TemplateProcessing", "single": [*map(piece, before), {"Sequence": {"id": "A", "type_id": 0}}, *map(piece, after)],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in {*before, *after}}}


def split(pattern, behavior, invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def sequence(key, *items):
    return {"type": "Sequence", key: list(items)}


def entry(name, model, **sections):
    base = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None}
    return {"name": name, "model": model, "json": {**base, **sections}}


def pre(*items):
    return sequence("pretokenizers", *items)


E = []
for name in ("byte", "byte_legacy", "byte_whole"):
    E.append(entry(f"byte level, {name}", name, pre_tokenizer=BYTE_LEVEL, decoder=BYTE_LEVEL, added_tokens=SPECIALS))
E.append(entry("byte level with prefix space and tokens", "byte", pre_tokenizer={**BYTE_LEVEL, "add_prefix_space": True}, decoder=BYTE_LEVEL, added_tokens=SPECIALS + TOKENS,
               post_processor=sequence("processors", {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}, template(["<s>"], []))))
E.append(entry("byte level missing use_regex", "byte", pre_tokenizer={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}, decoder=BYTE_LEVEL))
E.append(entry("template around", "byte", pre_tokenizer=BYTE_LEVEL, decoder=BYTE_LEVEL, added_tokens=SPECIALS, post_processor=template(["<s>", "<s>"], ["</s>"])))
for form in ("NFC", "NFD", "NFKC", "NFKD"):
    E.append(entry(form, "byte", normalizer={"type": form}, pre_tokenizer=BYTE_LEVEL, decoder=BYTE_LEVEL, added_tokens=SPECIALS + TOKENS))
E.append(entry("lowercase", "byte", normalizer={"type": "Lowercase"}, pre_tokenizer=BYTE_LEVEL, decoder=BYTE_LEVEL, added_tokens=TOKENS))
for left, right in ((True, True), (True, False), (False, True)):
    E.append(entry(f"strip {left} {right}", "byte", normalizer={"type": "Strip", "strip_left": left, "strip_right": right}, pre_tokenizer=BYTE_LEVEL, decoder=BYTE_LEVEL, added_tokens=SPECIALS))
E.append(entry("replace by expression", "byte", normalizer=sequence("normalizers", {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}, {"type": "Replace", "pattern": {"String": "a"}, "content": ""}, {"type": "Lowercase"}),
               pre_tokenizer=BYTE_LEVEL, decoder=BYTE_LEVEL, added_tokens=TOKENS))
E.append(entry("prepend before normalised tokens", "byte", normalizer=sequence("normalizers", {"type": "Prepend", "prepend": "_"}, {"type": "Lowercase"}), pre_tokenizer=BYTE_LEVEL, decoder=BYTE_LEVEL,
               added_tokens=[added("Mixed Case", normalized=True), added("hello", normalized=True), added("[TOK]")]))
for behavior in ("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
    for invert in (False, True):
        E.append(entry(f"split {behavior} {invert}", "byte", pre_tokenizer=pre(split({"String": "-"}, behavior, invert), BYTE_ONLY), decoder=BYTE_LEVEL))
        E.append(entry(f"split by expression {behavior} {invert}", "byte", pre_tokenizer=pre(split({"Regex": "[a-e]+|\\d"}, behavior, invert), BYTE_ONLY), decoder=BYTE_LEVEL))
E.append(entry("split at empty matches", "byte", pre_tokenizer=pre(split({"Regex": "x*"}, "Isolated"), BYTE_ONLY), decoder=BYTE_LEVEL))
E.append(entry("split at white space classes", "byte", pre_tokenizer=pre(split({"Regex": "\\s|[\\s-]+|\\S\\S"}, "MergedWithNext"), BYTE_ONLY), decoder=BYTE_LEVEL))
E.append(entry("split by digits looking ahead", "byte", pre_tokenizer=pre(split({"Regex": "(?<=\\d)(?=(\\d{3})+(?!\\d))"}, "Isolated"), BYTE_ONLY), decoder=BYTE_LEVEL))
E.append(entry("individual digits", "byte", pre_tokenizer=pre({"type": "Digits", "individual_digits": True}, BYTE_LEVEL), decoder=BYTE_LEVEL))
E.append(entry("contiguous digits", "byte", pre_tokenizer=pre({"type": "Digits", "individual_digits": False}, BYTE_LEVEL), decoder=BYTE_LEVEL))
E.append(entry("byte level before another split", "byte", pre_tokenizer=pre(BYTE_ONLY, split({"String": "Ġ"}, "MergedWithNext")), decoder=BYTE_LEVEL))
E.append(entry("no pre-tokenizer", "byte", decoder=BYTE_LEVEL))
E.append(entry("null decoder", "byte", pre_tokenizer=BYTE_LEVEL, added_tokens=SPECIALS))
for name in ("sentence", "sentence_partial"):
    E.append(entry(f"Llama 2 style, {name}", name, normalizer=LLAMA2_NORMALIZER, decoder=LLAMA2_DECODER, added_tokens=[added("<unk>", special=True)] + SPECIALS + [added("[TOK]")], post_processor=template(["<s>"], [])))
for scheme in ("always", "first", "never"):
    for cut in (True, False):
        meta = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cut}
        E.append(entry(f"metaspace {scheme} {cut}", "sentence", pre_tokenizer=meta, decoder=meta, added_tokens=SPECIALS + TOKENS))
E.append(entry("metaspace of old files", "sentence", pre_tokenizer={"type": "Metaspace", "replacement": "▁", "add_prefix_space": True, "prepend_scheme": "always"}, decoder={"type": "Metaspace", "replacement": "▁", "add_prefix_space": True, "prepend_scheme": "always"}))
E.append(entry("metaspace after a split", "sentence", pre_tokenizer=pre(split({"String": "-"}, "Isolated"), {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}), decoder={"type": "Fuse"}))
E.append(entry("strip decoder before fuse", "sentence", normalizer=LLAMA2_NORMALIZER, decoder=sequence("decoders", {"type": "Strip", "content": "▁", "start": 2, "stop": 0}, {"type": "Replace", "pattern": {"Regex": "[aeiou]"}, "content": "*"})))
for name in ("unknown", "unknown_fused", "no_unknown"):
    E.append(entry(f"characters, {name}", name, decoder={"type": "Fuse"}))
    E.append(entry(f"characters cut at spaces, {name}", name, pre_tokenizer=split({"String": " "}, "Removed"), decoder=None))
META = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
for name in ("unigram", "unigram_bytes"):
    E.append(entry(f"Unigram, {name}", name, pre_tokenizer=META, decoder=META, added_tokens=[added("<unk>", special=True)] + SPECIALS + [added("[TOK]")], post_processor=template([], ["</s>"])))
    E.append(entry(f"Unigram over everything, {name}", name, normalizer=LLAMA2_NORMALIZER, decoder=LLAMA2_DECODER))

out = {"models": MODELS, "tokenizers": E}
for e in E:
    full = {**e["json"], "model": MODELS[e["model"]]}
    vocab = MODELS[e["model"]]["vocab"]
    ids = dict(vocab) if isinstance(vocab, dict) else {piece: i for i, (piece, _) in enumerate(vocab)}
    next_id = max(ids.values()) + 1
    for token in e["json"]["added_tokens"]:
        if token["content"] not in ids:
            ids[token["content"]] = next_id
            next_id += 1
    e["json"]["added_tokens"] = [{**t, "id": ids[t["content"]]} for t in e["json"]["added_tokens"]]

    def fix(node):
        if isinstance(node, dict):
            if "ids" in node and "tokens" in node:
                node["ids"] = [ids[t] for t in node["tokens"]]
            for value in node.values():
                fix(value)
        elif isinstance(node, list):
            for value in node:
                fix(value)

    e["json"]["post_processor"] = copy.deepcopy(e["json"]["post_processor"])
    fix(e["json"]["post_processor"])
    tok = tokenizers.Tokenizer.from_str(json.dumps({**e["json"], "model": MODELS[e["model"]]}))
    e["cases"] = []
    for text in TEXTS:
        plain = tok.encode(text, add_special_tokens=False).ids
        e["cases"].append({"text": text, "ids": plain, "special": tok.encode(text).ids, "text_out": tok.decode(plain, skip_special_tokens=False), "text_skip": tok.decode(plain)})

out["refused"] = [
    {"name": "normalizer", "json": {"normalizer": {"type": "BertNormalizer"}}, "part": "BertNormalizer"}, {"name": "normalizer in a sequence", "json": {"normalizer": sequence("normalizers", {"type": "NFC"}, {"type": "Precompiled", "precompiled_charsmap": ""})}, "part": "Precompiled"},
    {"name": "pre-tokenizer", "json": {"pre_tokenizer": {"type": "UnicodeScripts"}}, "part": "UnicodeScripts"}, {"name": "post-processor", "json": {"post_processor": {"type": "RobertaProcessing"}}, "part": "RobertaProcessing"},
    {"name": "decoder", "json": {"decoder": {"type": "WordPiece"}}, "part": "WordPiece"}, {"name": "split behavior", "json": {"pre_tokenizer": split({"String": "x"}, "Sideways")}, "part": "Sideways"},
    {"name": "expression", "json": {"pre_tokenizer": split({"Regex": "(unclosed"}, "Isolated")}, "part": "(unclosed"}, {"name": "component without type", "json": {"decoder": {}}, "part": "decoder"},
    {"name": "model", "json": {"model": {"type": "WordPiece", "vocab": {"a": 0}}}, "part": "WordPiece"}, {"name": "dropout", "json": {"model": {"type": "BPE", "dropout": 0.1, "vocab": {"a": 0}, "merges": []}}, "part": "dropout"},
    {"name": "suffix", "json": {"model": {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": {"a": 0}, "merges": []}}, "part": "end_of_word_suffix"},
    {"name": "merge part missing", "json": {"model": {"type": "BPE", "vocab": {"a": 0, "ab": 1}, "merges": ["a b"]}}, "part": "\"b\""}, {"name": "merge result missing", "json": {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]}}, "part": "\"ab\""},
    {"name": "merge of three", "json": {"model": {"type": "BPE", "vocab": {"a": 0, "aa": 1}, "merges": ["a a a"]}}, "part": "merge 0"}, {"name": "one id twice", "json": {"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}}, "part": "same id 0"},
    {"name": "huge id", "json": {"model": {"type": "BPE", "vocab": {"a": 4000000000}, "merges": []}}, "part": "4000000000"}, {"name": "negative id", "json": {"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}, "part": "-1"},
    {"name": "empty vocabulary", "json": {"model": {"type": "BPE", "vocab": {}, "merges": []}}, "part": "empty"}, {"name": "no model", "json": {"model": None}, "part": "malformed"},
    {"name": "unigram without scores", "json": {"model": {"type": "Unigram", "vocab": {"a": 0}}}, "part": "Unigram"}, {"name": "unknown id outside", "json": {"model": {"type": "Unigram", "unk_id": 7, "vocab": [["a", -1.0]]}}, "part": "unk_id 7"},
    {"name": "template without text", "json": {"post_processor": {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}}}, "part": "sequence A"},
    {"name": "template of an unknown token", "json": {"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<x>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {}}}, "part": "special token"},
]
lines = lambda items: ",\n".join(json.dumps(i, separators=(",", ":")) for i in items)
print('{"library":' + json.dumps("tokenizers " + tokenizers.__version__) + ',\n"models":{\n' + ",\n".join(json.dumps(k) + ":" + json.dumps(v, separators=(",", ":")) for k, v in MODELS.items())
      + '},\n"tokenizers":[\n' + lines(E) + '],\n"refused":[\n' + lines(out["refused"]) + "]}")

"""The rows of bench/README.md's table: what is sent, which number counts, what must be reached, and what the memory or the
arithmetic of the device allows at most."""

from dataclasses import dataclass


@dataclass
class Row:
    name: str
    stage: str
    model: str
    in_len: int
    out_len: int
    streams: int = 1
    requests: int = 1
    warmup: int = 1
    repeat: int = 1
    measure: str = "decode_tok_s"  # key of bench_serve's line; of a spread: ttft_ms/p50
    ceiling: str = "read"  # read: bytes of a decode step; products: operations of a prompt; "": none is counted
    must: float | None = None  # a share of the ceiling (< 1) or a value
    goal: float | None = None
    less_is_better: bool = False


L8, L1, Q7 = "llama-3.1-8b", "llama-3.2-1b", "qwen2.5-7b"
ROWS = [
    Row("batch 1, context 128", "decode", L8, 128, 256, repeat=3, must=0.88, goal=0.93),
    Row("batch 1, context 8,192", "decode", L8, 7936, 256, repeat=3, must=0.85, goal=0.90),
    Row("8 streams of 128 + 256", "streams", L8, 128, 256, 8, 8, 8, 3, "steady_tok_s", must=1380, goal=1480),
    Row("32 streams of 128 + 256", "streams", L8, 128, 256, 32, 32, 32, 3, "steady_tok_s", must=5000, goal=5600),
    Row("prompt of 2,048, tok/s", "prompt", L8, 2048, 2, 1, 20, 5, 1, "prefill_tok_s", "products", 39000, 0.75),
    Row("256 streams, 512 + 128, tok/s", "load", L8, 512, 128, 256, 512, 64, 2, "output_tok_s", "", 6700, 7300),
    Row("TTFT p50, 32 tokens, idle, ms", "ttft", L8, 32, 8, 1, 60, 10, 1, "ttft_ms/p50", "", 7.5, 6.0, True),
    Row("batch 1, context 128", "small", L1, 128, 256, repeat=3, must=0.72, goal=0.78),
    Row("8 streams of 128 + 256", "small", L1, 128, 256, 8, 8, 8, 1, "steady_tok_s"),
    Row("32 streams of 128 + 256", "small", L1, 128, 256, 32, 32, 32, 1, "steady_tok_s"),
    Row("batch 1, context 128", "qwen", Q7, 128, 256, repeat=3),
    Row("8 streams of 128 + 256", "qwen", Q7, 128, 256, 8, 8, 8, 1, "steady_tok_s"),
    Row("32 streams of 128 + 256", "qwen", Q7, 128, 256, 32, 32, 32, 1, "steady_tok_s"),
]
MEAN_TTFT_MS = ("256 streams, 512 + 128: mean TTFT, ms", 1100.0)  # of the load row


@dataclass
class Shape:
    """What a config says about bytes and operations, for 16-bit weights and KV."""

    step_bytes: int  # weights that a step reads: all but an embedding table that gives single rows
    kv_bytes: int  # of one token
    layer_values: int  # weights in matrices of layers
    head_values: int
    attention: int  # multiplications of one query with one key and one value, all layers

    @staticmethod
    def of(config):
        dim, ffn, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
        head = config.get("head_dim") or dim // config["num_attention_heads"]
        q, kv = head * config["num_attention_heads"], head * config["num_key_value_heads"]
        values = layers * (dim * (2 * q + 2 * kv) + 3 * dim * ffn)
        logits = config["vocab_size"] * dim
        return Shape(2 * (values + logits), 2 * 2 * kv * layers, values, logits, 2 * q * layers)

    def read_rate(self, tok_s, streams, context):
        """Bytes a second that so many output tokens a second read."""
        return tok_s / streams * (self.step_bytes + streams * context * self.kv_bytes)

    def prompt_operations(self, tokens):
        """Of one prompt, of whose last row alone logits are made."""
        attended = tokens * (tokens + 1) // 2
        return 2 * (tokens * self.layer_values + self.head_values + attended * self.attention)


def measured(row, line):
    value = line
    for key in row.measure.split("/"):
        value = (value or {}).get(key)
    return value


def share(row, shape, value, ceilings):
    """Of the device's measured ceiling, or None."""
    if not value or not row.ceiling or not ceilings.get(row.ceiling):
        return None
    if row.ceiling == "read":
        return shape.read_rate(value, row.streams, row.in_len + row.out_len / 2) / ceilings["read"]
    return value / row.in_len * shape.prompt_operations(row.in_len) / ceilings["products"]


def reached(row, target, value, part):
    """Whether the measured value or its share meets a target; None where there is no target."""
    if target is None or value is None:
        return None
    if target < 1:
        return None if part is None else part >= target
    return value <= target if row.less_is_better else value >= target

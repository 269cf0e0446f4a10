"""The made-up files of the comparison with llama.cpp (bench/peers): what the script writes is a model that donar runs."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import base

BENCH = pathlib.Path(__file__).resolve().parent.parent.parent / "bench"
PEERS = BENCH / "peers"
sys.path.insert(0, str(BENCH / "gpu"))
import gguf  # noqa: E402

CONFIG = {"model_type": "llama", "bos_token_id": 400, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 512}
CONFIG |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512, "rms_norm_eps": 1e-5}
CONFIG |= {"rope_theta": 10000.0}
LAYER_VALUES = 64 * (64 + 32 + 32 + 64) + 3 * 64 * 128
ROPE = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 128}


class MadeUpFiles(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def make(self, name, **more):
        (self.folder / "config.json").write_text(json.dumps(CONFIG | more))
        out = self.folder / name
        command = [sys.executable, str(PEERS / "make_gguf.py"), str(self.folder), str(out)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        return out

    def bench(self, model):
        command = [base.OPTIONS.donar, "bench", str(model), "--device", "cpu", "--input-len", "20", "--output-len", "8", "--json"]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def test_the_head_counts_once_whether_it_is_the_embedding_or_not(self):
        weights = 2 * (2 * LAYER_VALUES + 512 * 64) + 4 * 5 * 64  # BF16 matrices, F32 norms
        tied, untied = self.make("tied.gguf", tie_word_embeddings=True), self.make("untied.gguf")
        self.assertEqual(gguf.bytes_of_token(tied), weights)
        self.assertEqual(gguf.bytes_of_token(untied), weights)
        self.assertEqual(untied.stat().st_size - tied.stat().st_size, 2 * 512 * 64 + 64)  # the head, and what names it
        for model in (tied, untied):
            self.assertEqual(self.bench(model)["step_weight_bytes"], weights)

    def test_the_same_seed_writes_the_same_bytes_and_tokens_come_out_of_them(self):
        one, two = (self.make(name, tie_word_embeddings=True, rope_scaling=ROPE) for name in ("one.gguf", "two.gguf"))
        self.assertEqual(one.read_bytes(), two.read_bytes())
        self.assertEqual(gguf.tensor_bytes(one)["rope_freqs.weight"], 4 * 8)
        line = self.bench(one)
        self.assertGreater(line["decode_tokens_per_s"], 0)
        plain = self.bench(self.make("plain.gguf", tie_word_embeddings=True))
        self.assertNotEqual(line["logits_hash"], plain["logits_hash"])  # the divisors are honoured

    def test_a_config_of_another_architecture_is_refused(self):
        with self.assertRaises(subprocess.CalledProcessError) as caught:
            self.make("qwen.gguf", model_type="qwen2")
        self.assertIn("model_type qwen2", caught.exception.stderr)
        self.assertFalse((self.folder / "qwen.gguf").exists())

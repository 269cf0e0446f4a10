"""The load generator (bench_serve, where it was built) on the real server."""

import json
import pathlib
import subprocess
import unittest

import base
from base import MODEL, ServerTest


class BenchServe(ServerTest):
    def setUp(self):
        self.binary = pathlib.Path(base.OPTIONS.donar).resolve().parent / "bench_serve"
        if not self.binary.exists():
            self.skipTest("bench_serve was not built (DONAR_BENCH)")

    def run_bench(self, *flags):
        command = [self.binary, "--url", self.server.url, "--max-id", "40000", "--json", *flags]
        run = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
        return run.returncode, [json.loads(line) for line in run.stdout.splitlines()], run.stderr

    def test_a_closed_loop_counts_every_token(self):
        code, lines, stderr = self.run_bench(
            "--input-len", 20, "--output-len", 12, "--concurrency", 3, "--num-requests", 7, "--warmup", 1, "--repeat", 2
        )
        self.assertEqual(code, 0, stderr)
        self.assertEqual(len(lines), 2)
        for line in lines:
            self.assertEqual((line["model"], line["requests"], line["errors"]), (MODEL, 7, 0))
            self.assertEqual((line["prompt_tokens"], line["output_tokens"]), (7 * 20, 7 * 12))
            self.assertGreater(line["ttft_ms"]["p50"], 0)
            self.assertLessEqual(line["ttft_ms"]["p50"], line["e2e_ms"]["p50"])
            self.assertAlmostEqual(line["output_tok_s"] * line["wall_s"], 7 * 12, delta=2)

    def test_arrivals_of_a_rate_take_their_time(self):
        code, lines, stderr = self.run_bench("--input-len", 8, "--output-len", 2, "--request-rate", 20, "--num-requests", 10)
        self.assertEqual(code, 0, stderr)
        self.assertEqual(lines[0]["request_rate"], 20)
        self.assertIsNone(lines[0]["steady_tok_s"])

    def test_failed_requests_end_with_1_and_their_reason(self):
        code, lines, _ = self.run_bench("--input-len", 8, "--output-len", 100000)
        self.assertEqual(code, 1)
        self.assertEqual(lines[0]["errors"], 1)
        self.assertIn("HTTP 400", lines[0]["first_error"])


if __name__ == "__main__":
    unittest.main()

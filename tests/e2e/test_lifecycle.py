"""Start, loading, drain, failure; and the other commands of the binary."""

import json
import os
import pty
import select
import signal
import subprocess
import threading
import termios
import time
import unittest

import base
import openai
from base import MODEL, client_of, sse, start

LONG = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 60, "ignore_eos": True, "temperature": 0, "stream": True}


def donar(*arguments, text=None, timeout=600):
    model = [str(base.OPTIONS.model)] if base.OPTIONS.model else []
    return subprocess.run(
        [base.OPTIONS.donar, arguments[0], *model, *arguments[1:]], input=text, capture_output=True, text=True, timeout=timeout
    )


class Start(unittest.TestCase):
    def test_health_says_loading_and_requests_get_503_until_ready(self):
        with start(wait=False) as server:
            status, _, text = server.request("GET", "/health")
            self.assertEqual(status, 503, text)
            self.assertIn("loading", text)
            self.assertEqual(server.request("GET", "/v1/models")[0], 200)
            early = server.request("POST", "/v1/completions", {"prompt": "x", "max_tokens": 1})[0]
            self.assertIn(early, (503, 200))  # 200 only if it became ready in between
            end = time.monotonic() + 120
            while server.request("GET", "/health")[0] != 200 and time.monotonic() < end:
                time.sleep(0.01)
            self.assertEqual(server.request("POST", "/v1/completions", {"prompt": "x", "max_tokens": 1})[0], 200)
            self.assertTrue(server.ready.wait(10))

    def test_a_model_that_is_not_there_ends_with_an_error_that_says_what_to_do(self):
        run = subprocess.run([base.OPTIONS.donar, "serve", "no/such-model", "--port", "0"], capture_output=True, text=True, timeout=60)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("hf download no/such-model", run.stderr)

    def test_a_port_in_use_is_named(self):
        with start() as server:
            run = donar("serve", "--port", str(server.port), timeout=60)
            self.assertNotEqual(run.returncode, 0)
            self.assertIn(str(server.port), run.stderr)
            self.assertIn("in use", run.stderr)

    def test_bad_flags_end_with_2(self):
        self.assertEqual(donar("serve", "--prot", "1").returncode, 2)
        self.assertIn("--port", donar("serve", "--prot", "1").stderr)


class Drain(unittest.TestCase):
    def test_sigterm_lets_a_stream_finish_refuses_new_requests_and_exits_with_0(self):
        server = start()
        result = {}

        def stream():
            result["reply"] = server.request("POST", "/v1/completions", LONG | {"max_tokens": 300})

        thread = threading.Thread(target=stream)
        thread.start()
        end = time.monotonic() + 60
        while server.metrics()["vllm:num_requests_running"] == 0 and time.monotonic() < end:
            time.sleep(0.005)
        server.process.send_signal(signal.SIGTERM)
        refused = None
        while thread.is_alive() and refused != 503:
            try:
                refused = server.request("POST", "/v1/completions", {"prompt": "x", "max_tokens": 1})[0]
            except OSError:
                refused = 503  # the acceptor is closed, which refuses as well
        thread.join()
        self.assertEqual(refused, 503)
        status, _, text = result["reply"]
        self.assertEqual(status, 200)
        events = sse(text)
        self.assertEqual(events[-1], "[DONE]")
        finishes = [c["finish_reason"] for e in events[:-1] for c in json.loads(e)["choices"] if c.get("finish_reason")]
        self.assertEqual(finishes, ["length"])
        self.assertEqual(server.stop(), 0)
        self.assertIn("0 B of memory still held", server.log())

    def test_a_second_signal_stops_at_once(self):
        server = start("--shutdown-timeout", "600", "--max-model-len", "8192")
        thread = threading.Thread(target=lambda: server.request("POST", "/v1/completions", LONG | {"max_tokens": 8000}))
        thread.start()
        end = time.monotonic() + 60
        while server.metrics()["vllm:num_requests_running"] == 0 and time.monotonic() < end:
            time.sleep(0.005)
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        self.assertIsNone(server.process.poll(), "one signal should drain")
        self.assertEqual(server.stop(seconds=30), 0)
        thread.join()

    def test_an_idle_server_stops_quickly(self):
        server = start()
        began = time.monotonic()
        self.assertEqual(server.stop(), 0)
        self.assertLess(time.monotonic() - began, 8, "it should not wait for the shutdown timeout")


class Limits(unittest.TestCase):
    def test_a_full_inbox_answers_429(self):
        with start("--max-num-seqs", "1", "--max-waiting", "1") as server:
            client = client_of(server)
            streams, refused = [], 0
            for _ in range(8):
                try:
                    streams.append(client.completions.create(
                        model=MODEL, prompt="Once", max_tokens=200, stream=True, extra_body={"ignore_eos": True}
                    ))
                except openai.RateLimitError:
                    refused += 1
            for stream in streams:
                stream.close()
            self.assertGreater(refused, 0)
            server.await_idle()


class Commands(unittest.TestCase):
    def test_version(self):
        run = subprocess.run([base.OPTIONS.donar, "version"], capture_output=True, text=True, timeout=60)
        self.assertEqual(run.returncode, 0)
        self.assertRegex(run.stdout, r"^donar \d+\.\d+\.\d+")

    def test_doctor_says_what_is_there_and_ends_with_0_unless_something_is_broken(self):
        run = subprocess.run([base.OPTIONS.donar, "doctor"], capture_output=True, text=True, timeout=60)
        self.assertEqual(run.returncode, 1 if "\nProblem: " in run.stdout else 0, run.stdout)
        for word in ("donar ", "CPU ", "driver ", "cuBLASLt"):
            self.assertIn(word, run.stdout)

    def test_a_device_that_is_not_there_is_refused_in_words(self):
        run = donar("serve", "--port", "0", "--device", "cuda:99", timeout=60)
        self.assertEqual(run.returncode, 1)
        self.assertRegex(run.stderr, "without CUDA|NVIDIA driver|no CUDA device")

    def test_run_answers_each_line_of_a_pipe(self):
        run = donar(
            "run", "--temperature", "0", "--max-tokens", "24", "--system", "You are a helpful assistant.",
            text="What is the capital of France?\n/clear\nWho wrote Hamlet?\n",
        )
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("Paris", run.stdout)
        self.assertIn("Shakespeare", run.stdout)
        self.assertEqual(run.stderr.count("tok/s"), 2)

    def test_run_in_a_terminal_stops_an_answer_with_ctrl_c_and_goes_on(self):
        model = [str(base.OPTIONS.model)] if base.OPTIONS.model else []
        pid, terminal = pty.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a script's background jobs are born ignoring it
            os.environ["TERM"] = "xterm"
            os.execv(base.OPTIONS.donar, [base.OPTIONS.donar, "run", *model, "--temperature", "0"])
        seen = b""

        def until(text, seconds=120):
            nonlocal seen
            end = time.monotonic() + seconds
            while text not in seen:
                self.assertLess(time.monotonic(), end, f"{text} did not come: {seen[-2000:]}")
                if select.select([terminal], [], [], 0.2)[0]:
                    seen += os.read(terminal, 4096)
            before, _, seen = seen.partition(text)
            return before

        def prompt():
            until(b">>> ")
            end = time.monotonic() + 20
            while termios.tcgetattr(terminal)[3] & termios.ICANON:  # what is typed before the editor reads is echoed twice
                self.assertLess(time.monotonic(), end, "the line editor does not begin")
                time.sleep(0.001)

        prompt()
        os.write(terminal, "Zähle von 1 bis 10000: 1, 2, 3,\n".encode())
        until("10000: 1, 2, 3,\r\n".encode())
        while not seen:
            seen += os.read(terminal, 4096)  # the first words of the answer
        os.write(terminal, b"\x03")
        self.assertIn(b"tok/s", until(b"stopped]"))
        prompt()
        os.write(terminal, b"a line that is dropped\x03")
        os.write(terminal, b"/set top_k 3\n")
        until(b"top_k = 3")
        os.write(terminal, b"/exit\n")
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        os.close(terminal)

    def test_bench_ends_with_json_of_both_speeds_and_the_same_hash_each_time(self):
        lines = []
        for threads in ("1", "2"):
            run = donar("bench", "--threads", threads, "--input-len", "40", "--output-len", "8", "--batch-size", "2", "--repeat", "1")
            self.assertEqual(run.returncode, 0, run.stderr)
            lines.append(json.loads(run.stdout.splitlines()[-1]))
        for line in lines:
            self.assertGreater(line["prompt_tokens_per_s"], 0)
            self.assertGreater(line["decode_tokens_per_s"], 0)
            self.assertGreater(line["bandwidth_share"], 0)
        self.assertEqual(lines[0]["tokens_hash"], lines[1]["tokens_hash"])
        self.assertEqual(lines[0]["logits_hash"], lines[1]["logits_hash"])

    def test_bench_decodes_behind_a_context_of_its_own_and_names_the_best_run(self):
        run = donar("bench", "--input-len", "40", "--context", "100", "--output-len", "8", "--repeat", "3", "--json")
        self.assertEqual(run.returncode, 0, run.stderr)
        line = json.loads(run.stdout)
        self.assertEqual(line["context"], 100)
        self.assertGreaterEqual(line["best_prompt_tokens_per_s"], line["prompt_tokens_per_s"])
        self.assertGreaterEqual(line["best_decode_tokens_per_s"], line["decode_tokens_per_s"])
        short = json.loads(donar("bench", "--context", "40", "--input-len", "40", "--output-len", "8", "--json").stdout)
        # Keys and values of 104 tokens against those of 44; the weights stay.
        self.assertAlmostEqual(line["step_kv_bytes"] / short["step_kv_bytes"], 104 / 44)
        self.assertEqual(line["step_weight_bytes"], short["step_weight_bytes"])

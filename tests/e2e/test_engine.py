"""What many clients at once must not change: texts, and where the memory is afterwards."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from base import MODEL, ServerTest

QUESTIONS = [
    "What is the capital of Italy?", "Write one sentence about rain.", "What is 12 times 12?", "Name a colour.",
    "Who wrote Hamlet?", "Translate 'good morning' into Spanish.", "Tell me a very short story about a fox and a river. " * 8,
    "List the planets.",
]


class Determinism(ServerTest):
    def test_greedy_and_seeded_text_is_the_same_alone_and_among_others(self):
        def ask(item):
            question, seeded = item
            more = {"temperature": 0.8, "seed": 5} if seeded else {}
            return self.chat(question, max_tokens=32, **more).choices[0].message.content

        items = [(q, seeded) for q in QUESTIONS for seeded in (False, True)]
        alone = [ask(item) for item in items]
        with ThreadPoolExecutor(len(items)) as pool:
            together = list(pool.map(ask, items))
        self.assertEqual(together, alone)


class Disconnects(ServerTest):
    def start_stream(self, max_tokens=1500):
        """A raw connection with a long stream under way."""
        body = json.dumps({
            "model": MODEL, "messages": [{"role": "user", "content": "Tell me a long story."}], "max_tokens": max_tokens,
            "ignore_eos": True, "stream": True,
        })
        connection = socket.create_connection(("127.0.0.1", self.server.port))
        connection.sendall(
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{self.server.port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        got = b""
        while b'"content"' not in got or got.count(b"data: ") < 4:
            more = connection.recv(65536)
            self.assertTrue(more, got)
            got += more
        return connection

    def test_a_client_that_goes_away_frees_everything(self):
        before = self.server.await_idle()
        connections = [self.start_stream() for _ in range(4)]
        self.assertEqual(self.server.metrics()["vllm:num_requests_running"], 4)
        for connection in connections:
            connection.close()
        began = time.monotonic()
        after = self.server.await_idle(seconds=20)
        self.assertLess(time.monotonic() - began, 20)
        self.assertEqual(after["vllm:num_requests_running"], 0)
        generated = after["vllm:generation_tokens_total"] - before["vllm:generation_tokens_total"]
        self.assertLess(generated, 4 * 1500, "the requests ran to their end although nobody listened")

    def test_a_client_that_goes_away_before_the_answer_frees_everything(self):
        body = json.dumps({"model": MODEL, "prompt": "word " * 1000, "max_tokens": 900, "ignore_eos": True}).encode()
        connection = socket.create_connection(("127.0.0.1", self.server.port))
        head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        end = time.monotonic() + 60
        while self.server.metrics()["vllm:num_requests_running"] == 0 and time.monotonic() < end:
            time.sleep(0.005)
        connection.close()
        self.server.await_idle(seconds=20)

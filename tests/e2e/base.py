"""What every test file shares: one server for all tests that need nothing special, and the official client on it."""

import json
import unittest

import openai

from server import MODEL, DonarServer

OPTIONS = None  # set by run.py: .donar, .model
_shared = None


def start(*flags, **more):
    return DonarServer(OPTIONS.donar, *flags, model=OPTIONS.model, **more)


def shared():
    global _shared
    if _shared is None:
        _shared = start("--max-model-len", "2048", "--kv-cache-memory-bytes", "256M")
    return _shared


def stop_shared():
    global _shared
    if _shared is not None:
        server, _shared = _shared, None
        return server.stop()
    return 0


def client_of(server, key="none"):
    return openai.OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0, timeout=300)


def sse(text):
    """The data of each event of a finished stream."""
    return [line[len("data: ") :] for line in text.splitlines() if line.startswith("data: ")]


class ServerTest(unittest.TestCase):
    model = MODEL

    @classmethod
    def setUpClass(cls):
        cls.server = shared()
        cls.client = client_of(cls.server)

    # With these words the small default model answers simple questions well, in either of its formats.
    SYSTEM = {"role": "system", "content": "You are a helpful assistant."}

    def chat(self, content="What is the capital of France?", **more):
        more = {"temperature": 0, "max_tokens": 24, "model": MODEL} | more
        return self.client.chat.completions.create(messages=[self.SYSTEM, {"role": "user", "content": content}], **more)

    def post(self, path, body, headers=None):
        status, _, text = self.server.request("POST", path, body, headers)
        return status, json.loads(text)

    def assert_error(self, reply, status, *words):
        """An error object as OpenAI's clients expect it."""
        got, body = reply
        self.assertEqual(got, status, body)
        error = body["error"]
        self.assertEqual(sorted(error), ["code", "message", "param", "type"])
        for word in words:
            self.assertIn(word, error["message"])

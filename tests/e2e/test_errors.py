"""What goes wrong is said in the shape that clients know."""

import openai
from base import MODEL, ServerTest, client_of, start

HI = [{"role": "user", "content": "Hi"}]


class Errors(ServerTest):
    def test_unknown_model_is_404(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            self.chat(model="another")
        self.assertIn("another", str(caught.exception))

    def test_model_may_be_absent(self):
        status, body = self.post("/v1/chat/completions", {"messages": HI, "max_tokens": 1})
        self.assertEqual((status, body["model"]), (200, MODEL))

    def test_values_out_of_range_are_400(self):
        for field, value in {
            "temperature": -1, "top_p": 2, "top_k": -2, "n": 0, "max_tokens": -1, "presence_penalty": 3, "top_logprobs": 99,
            "stop": 5, "logit_bias": {"x": 1}, "messages": [], "stream": "yes",
        }.items():
            self.assert_error(self.post("/v1/chat/completions", {"model": MODEL, "messages": HI, "logprobs": True, field: value}), 400)

    def test_malformed_bodies_are_400(self):
        for body in (b"", b"{", b"[]", b"\xff\xfe", b'{"messages": "hi"}', b'{"messages": [{"role": "user"}]}', b"[" * 5000):
            status, _, text = self.server.request("POST", "/v1/chat/completions", body)
            self.assertIn(status, (400, 413), text)
            self.assertIn('"error"', text)

    def test_a_prompt_that_cannot_fit_is_400_with_numbers(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.chat("word " * 5000)
        self.assertIn("2048", str(caught.exception))

    def test_wrong_method_is_405_and_wrong_path_404(self):
        self.assertEqual(self.server.request("GET", "/v1/chat/completions")[0], 405)
        self.assertEqual(self.server.request("DELETE", "/v1/models")[0], 405)
        self.assertEqual(self.server.request("GET", "/v1/nothing")[0], 404)

    def test_a_foreign_host_header_is_refused(self):
        self.assertEqual(self.server.request("GET", "/v1/models", headers={"Host": "evil.example"})[0], 403)

    def test_errors_leave_the_server_well(self):
        self.server.await_idle()
        self.assertEqual(self.server.request("GET", "/health")[0], 200)


class Keys(ServerTest):
    @classmethod
    def setUpClass(cls):
        cls.server = start("--api-key", "secret-1", "--api-key", "secret-2", "--served-model-name", "first", "second")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def test_without_a_right_key_it_is_401(self):
        for key in ("none", "secret-3", "secret-1x", "secret-"):
            with self.assertRaises(openai.AuthenticationError):
                client_of(self.server, key).models.list()
        self.assertEqual(self.server.request("GET", "/v1/models")[0], 401)
        self.assertEqual(self.server.request("POST", "/tokenize", {"prompt": "x"})[0], 401)

    def test_either_key_works_and_health_needs_none(self):
        for key in ("secret-1", "secret-2"):
            self.assertEqual([m.id for m in client_of(self.server, key).models.list()], ["first", "second"])
        self.assertEqual(self.server.request("GET", "/health")[0], 200)

    def test_every_served_name_is_accepted_and_the_first_is_echoed(self):
        client = client_of(self.server, "secret-1")
        for name in ("first", "second"):
            reply = client.chat.completions.create(model=name, messages=HI, max_tokens=1)
            self.assertEqual(reply.model, "first")
        with self.assertRaises(openai.NotFoundError):
            client.chat.completions.create(model=MODEL, messages=HI, max_tokens=1)

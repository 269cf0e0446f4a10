"""Chat as the official client does it, streamed and whole."""

import http.client
import json

import openai
from base import MODEL, ServerTest, sse


class Chat(ServerTest):
    def test_a_real_question_gets_a_real_answer(self):
        reply = self.chat()
        self.assertIn("Paris", reply.choices[0].message.content)
        self.assertEqual(reply.choices[0].message.role, "assistant")
        self.assertEqual(reply.choices[0].finish_reason, "stop")
        self.assertEqual(reply.model, MODEL)
        self.assertTrue(reply.id.startswith("chatcmpl-"))
        self.assertEqual(reply.usage.total_tokens, reply.usage.prompt_tokens + reply.usage.completion_tokens)

    def test_the_stream_is_the_same_text_with_role_first_and_usage_last(self):
        chunks = list(self.chat(stream=True, stream_options={"include_usage": True}))
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(text, self.chat().choices[0].message.content)
        self.assertEqual(chunks[-1].choices, [])
        self.assertGreater(chunks[-1].usage.completion_tokens, 0)
        finishes = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
        self.assertEqual(finishes, ["stop"])
        self.assertEqual(len({c.id for c in chunks}), 1)

    def test_without_include_usage_no_chunk_has_empty_choices(self):
        self.assertTrue(all(c.choices for c in self.chat(stream=True)))

    def test_timings_show_the_speed(self):
        timings = self.chat().model_extra["timings"]
        self.assertGreater(timings["predicted_per_second"], 0)
        self.assertGreater(timings["prompt_n"] + timings.get("cache_n", 0), 0)
        last = [c for c in self.chat(stream=True) if (c.model_extra or {}).get("timings")]
        self.assertTrue(last, "no chunk has timings")

    def test_max_tokens_ends_with_length_and_both_names_work(self):
        for name in ("max_tokens", "max_completion_tokens"):
            reply = self.client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "Count to one hundred."}], temperature=0, **{name: 5}
            )
            self.assertEqual(reply.usage.completion_tokens, 5, name)
            self.assertEqual(reply.choices[0].finish_reason, "length", name)

    def test_n_choices_differ_and_a_seed_repeats_them(self):
        def ask():
            reply = self.chat("Invent a name for a ship.", n=3, temperature=1.0, seed=11, max_tokens=16)
            self.assertEqual(sorted(c.index for c in reply.choices), [0, 1, 2])
            return {c.index: c.message.content for c in reply.choices}

        first = ask()
        self.assertGreater(len(set(first.values())), 1)
        self.assertEqual(first, ask())
        chunks = list(self.chat("Invent a name for a ship.", n=3, temperature=1.0, seed=11, max_tokens=16, stream=True))
        streamed = {0: "", 1: "", 2: ""}
        for chunk in chunks:
            for choice in chunk.choices:
                streamed[choice.index] += choice.delta.content or ""
        self.assertEqual(streamed, first)

    def test_stop_strings_end_the_text_before_them(self):
        whole = self.chat().choices[0].message.content
        stop = whole[len(whole) // 2 : len(whole) // 2 + 4]
        for stream in (False, True):
            reply = self.chat(stop=[stop, "never"], stream=stream)
            if stream:
                chunks = [c for c in reply if c.choices]
                text = "".join(c.choices[0].delta.content or "" for c in chunks)
                finish = chunks[-1].choices[0].finish_reason
            else:
                text, finish = reply.choices[0].message.content, reply.choices[0].finish_reason
                self.assertEqual(reply.choices[0].model_extra["stop_reason"], stop)
            self.assertEqual(text, whole[: whole.index(stop)])
            self.assertEqual(finish, "stop")
        included = self.chat(stop=stop, extra_body={"include_stop_str_in_output": True}).choices[0].message.content
        self.assertEqual(included, whole[: whole.index(stop) + len(stop)])

    def test_logprobs_come_per_token_with_the_best_others(self):
        reply = self.chat(logprobs=True, top_logprobs=3, max_tokens=6)
        content = reply.choices[0].logprobs.content
        self.assertEqual(len(content), reply.usage.completion_tokens)
        for entry in content:
            self.assertLessEqual(entry.logprob, 0)
            self.assertEqual(len(entry.top_logprobs), 3)
            self.assertAlmostEqual(entry.top_logprobs[0].logprob, entry.logprob, places=4, msg="greedy takes the best")
            self.assertGreaterEqual(entry.top_logprobs[0].logprob, entry.top_logprobs[1].logprob)
            self.assertEqual(bytes(entry.bytes).decode(errors="replace"), entry.token)

    def test_a_repeated_prompt_is_found_in_the_cache(self):
        question = "Tell me about the sea. " * 30
        self.chat(question, max_tokens=4)
        details = self.chat(question, max_tokens=4).usage.prompt_tokens_details
        self.assertGreaterEqual(details.cached_tokens, 64)

    def test_content_parts_null_fields_and_unknown_fields(self):
        plain = self.chat().choices[0].message.content
        parts = self.client.chat.completions.create(
            model=MODEL,
            temperature=0,
            max_tokens=24,
            messages=[self.SYSTEM, {"role": "user", "content": [{"type": "text", "text": "What is the capital of France?"}]}],
            extra_body={"stop": None, "seed": None, "logit_bias": None, "a_field_of_the_future": {"x": 1}, "no_stop_trim": False},
        )
        self.assertEqual(parts.choices[0].message.content, plain)

    def test_a_system_message_reaches_the_model(self):
        with_system = self.client.chat.completions.create(
            model=MODEL,
            temperature=0,
            max_tokens=24,
            messages=[{"role": "system", "content": "You answer in French."}, {"role": "user", "content": "Hello"}],
        )
        without = self.chat("Hello")
        self.assertNotEqual(with_system.usage.prompt_tokens, without.usage.prompt_tokens)

    def test_special_tokens_in_a_users_text_are_text(self):
        tame = self.post("/tokenize", {"model": MODEL, "messages": [{"role": "user", "content": "x"}]})[1]["tokens"]
        wild = self.post("/tokenize", {"model": MODEL, "messages": [{"role": "user", "content": "x<|im_end|>"}]})[1]["tokens"]
        end = self.post("/tokenize", {"model": MODEL, "prompt": "<|im_end|>", "add_special_tokens": False})[1]["tokens"]
        self.assertEqual(len(end), 1)
        self.assertEqual(tame.count(end[0]), wild.count(end[0]))

    def test_sampling_fields_are_honoured(self):
        biased = self.chat(max_tokens=3, logit_bias={"28": 100}, extra_body={"ignore_eos": True})
        token = self.post("/detokenize", {"model": MODEL, "tokens": [28, 28, 28]})[1]["prompt"]
        self.assertEqual(biased.choices[0].message.content, token)
        allowed = self.chat(max_tokens=2, extra_body={"allowed_token_ids": [28], "ignore_eos": True})
        self.assertEqual(allowed.usage.completion_tokens, 2)
        long = self.chat("Say hi.", max_tokens=40, extra_body={"min_tokens": 40})
        self.assertEqual(long.usage.completion_tokens, 40)

    def test_tools_are_accepted_and_tool_choice_required_is_refused(self):
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
        self.assertTrue(self.chat(tools=[tool], max_tokens=4).choices)
        with self.assertRaises(openai.BadRequestError):
            self.chat(tools=[tool], tool_choice="required")
        with self.assertRaises(openai.BadRequestError):
            self.chat(response_format={"type": "json_object"})

    def test_continue_final_message_goes_on_with_the_assistants_words(self):
        reply = self.client.chat.completions.create(
            model=MODEL,
            temperature=0,
            max_tokens=8,
            messages=[
                self.SYSTEM,
                {"role": "user", "content": "What is the capital of France?"},
                {"role": "assistant", "content": "The capital of France is"},
            ],
            extra_body={"add_generation_prompt": False, "continue_final_message": True},
        )
        self.assertTrue(reply.choices[0].message.content.startswith(" Paris"), reply.choices[0].message.content)


class Connections(ServerTest):
    def test_a_pooled_connection_works_after_done_or_says_close(self):
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "stream": True}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=300)
        for _ in range(3):
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
            reply = connection.getresponse()
            self.assertEqual(reply.status, 200)
            self.assertTrue(reply.getheader("Content-Type").startswith("text/event-stream"))
            self.assertEqual(sse(reply.read().decode())[-1], "[DONE]")
            if (reply.getheader("Connection") or "").lower() == "close":
                connection.close()
        connection.close()

    def test_one_client_makes_many_requests_of_both_kinds(self):
        for _ in range(3):
            self.assertTrue(list(self.chat("Hi", stream=True, max_tokens=3)))
            self.assertTrue(self.chat("Hi", max_tokens=3).choices)

    def test_request_id_is_echoed(self):
        status, headers, _ = self.server.request("GET", "/v1/models", headers={"X-Request-Id": "abc-123"})
        self.assertEqual((status, headers.get("x-request-id")), (200, "abc-123"))

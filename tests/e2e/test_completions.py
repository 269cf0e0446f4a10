"""/v1/completions: prompts in every shape, echo, logprobs; /tokenize and /detokenize."""

from base import MODEL, ServerTest

PROMPT = "The capital of France is"


class Completions(ServerTest):
    def complete(self, prompt=PROMPT, **more):
        more = {"temperature": 0, "max_tokens": 8, "model": MODEL} | more
        return self.client.completions.create(prompt=prompt, **more)

    def tokens(self, text):
        return self.post("/tokenize", {"model": MODEL, "prompt": text})[1]["tokens"]

    def test_text_ids_and_lists_of_both_give_the_same(self):
        text = self.complete().choices[0].text
        ids = self.tokens(PROMPT)
        self.assertEqual(self.complete(ids).choices[0].text, text)
        several = self.complete([PROMPT, "Two plus two is", PROMPT])
        self.assertEqual([c.index for c in several.choices], [0, 1, 2])
        self.assertEqual([several.choices[0].text, several.choices[2].text], [text, text])
        self.assertEqual(self.complete([ids, ids]).choices[1].text, text)

    def test_max_tokens_is_16_unless_given(self):
        reply = self.client.completions.create(model=MODEL, prompt=PROMPT, temperature=0, extra_body={"ignore_eos": True})
        self.assertEqual(reply.usage.completion_tokens, 16)

    def test_stream_is_the_same_text(self):
        chunks = list(self.complete(stream=True, stream_options={"include_usage": True}))
        self.assertEqual("".join(c.choices[0].text for c in chunks if c.choices), self.complete().choices[0].text)
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage.prompt_tokens, len(self.tokens(PROMPT)))

    def test_echo_with_logprobs_begins_with_null(self):
        reply = self.complete(echo=True, logprobs=2, max_tokens=3)
        choice, prompt_length = reply.choices[0], len(self.tokens(PROMPT))
        self.assertTrue(choice.text.startswith(PROMPT))
        logprobs = choice.logprobs
        self.assertEqual(len(logprobs.tokens), prompt_length + reply.usage.completion_tokens)
        self.assertIsNone(logprobs.token_logprobs[0])
        self.assertTrue(all(x is not None and x <= 0 for x in logprobs.token_logprobs[1:]))
        self.assertIsNone(logprobs.top_logprobs[0])
        self.assertEqual("".join(logprobs.tokens), choice.text)
        self.assertEqual(logprobs.text_offset[:2], [0, len(logprobs.tokens[0])])

    def test_echo_without_generation_scores_the_prompt(self):
        reply = self.complete(echo=True, logprobs=0, max_tokens=0)
        self.assertEqual(reply.choices[0].text, PROMPT)
        self.assertEqual(reply.usage.completion_tokens, 0)

    def test_tokens_as_ids(self):
        reply = self.complete(logprobs=1, max_tokens=2, extra_body={"return_tokens_as_token_ids": True})
        self.assertTrue(all(t.startswith("token_id:") for t in reply.choices[0].logprobs.tokens))

    def test_prompt_logprobs_have_a_null_first_entry(self):
        reply = self.complete(extra_body={"prompt_logprobs": 1}, max_tokens=1)
        scores = reply.choices[0].model_extra["prompt_logprobs"]
        self.assertEqual(len(scores), len(self.tokens(PROMPT)))
        self.assertIsNone(scores[0])
        for token, entry in list(zip(self.tokens(PROMPT), scores))[1:]:
            self.assertLessEqual(entry[str(token)]["logprob"], 0)

    def test_n_and_seed(self):
        texts = [c.text for c in self.complete(n=2, temperature=1.0, seed=3).choices]
        self.assertEqual(texts, [c.text for c in self.complete(n=2, temperature=1.0, seed=3).choices])
        self.assertNotEqual(texts[0], texts[1])


class Tokens(ServerTest):
    def test_tokenize_and_back(self):
        text = "Grüße aus Köln, 東京 👋🏽\n\tif x:"
        status, body = self.post("/tokenize", {"model": MODEL, "prompt": text})
        self.assertEqual(status, 200)
        self.assertEqual(body["count"], len(body["tokens"]))
        self.assertEqual(body["max_model_len"], 2048)
        self.assertEqual(self.post("/detokenize", {"model": MODEL, "tokens": body["tokens"]}), (200, {"prompt": text}))

    def test_messages_are_tokenized_as_chat_would(self):
        messages = [self.SYSTEM, {"role": "user", "content": "What is the capital of France?"}]
        status, body = self.post("/tokenize", {"model": MODEL, "messages": messages})
        self.assertEqual(status, 200)
        self.assertEqual(body["count"], self.chat(max_tokens=1).usage.prompt_tokens)

    def test_unknown_ids_are_refused(self):
        self.assert_error(self.post("/detokenize", {"model": MODEL, "tokens": [10**9]}), 400)

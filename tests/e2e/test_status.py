"""Health, models, version, page and metrics."""

import json

from base import MODEL, ServerTest

GAUGES = ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "cache_config_info"]
COUNTERS = [
    "prompt_tokens_total", "generation_tokens_total", "request_success_total", "num_preemptions_total",
    "prefix_cache_queries_total", "prefix_cache_hits_total",
]
HISTOGRAMS = [
    "time_to_first_token_seconds", "inter_token_latency_seconds", "request_time_per_output_token_seconds",
    "e2e_request_latency_seconds", "request_queue_time_seconds", "request_inference_time_seconds", "request_prefill_time_seconds",
    "request_decode_time_seconds", "iteration_tokens_total", "request_prompt_tokens", "request_generation_tokens",
    "request_params_n", "request_params_max_tokens",
]


class Status(ServerTest):
    def test_health_ping_version_models(self):
        self.assertEqual(self.server.request("GET", "/health")[0], 200)
        self.assertEqual(self.server.request("GET", "/ping")[0], 200)
        self.assertEqual(self.server.request("HEAD", "/health")[0], 200)
        self.assertIn("version", json.loads(self.server.request("GET", "/version")[2]))
        (card,) = self.client.models.list()
        self.assertEqual((card.id, card.model_extra["max_model_len"]), (MODEL, 2048))
        self.assertEqual(self.client.models.retrieve(MODEL).id, MODEL)

    def test_the_page_is_served(self):
        status, headers, text = self.server.request("GET", "/")
        self.assertEqual(status, 200)
        self.assertIn("text/html", headers["content-type"])
        self.assertIn("default-src 'self'", headers["content-security-policy"])
        self.assertIn("<script", text)

    def test_no_cors_header_unless_asked_for(self):
        _, headers, _ = self.server.request("GET", "/v1/models", headers={"Origin": "http://a.example"})
        self.assertNotIn("access-control-allow-origin", headers)


class Metrics(ServerTest):
    def test_every_name_of_vllm_is_there(self):
        self.chat(max_tokens=4)
        names = self.server.metrics()
        for name in GAUGES + COUNTERS:
            self.assertIn("vllm:" + name, names)
        for name in HISTOGRAMS:
            for suffix in ("_bucket", "_sum", "_count"):
                self.assertIn(f"vllm:{name}{suffix}", names)

    def test_counters_count_what_was_asked(self):
        before = self.server.await_idle()
        reply = self.chat("Name three colours of the rainbow, please.", max_tokens=7, extra_body={"ignore_eos": True})
        after = self.server.await_idle()
        grown = {name: after[name] - before.get(name, 0) for name in after}
        self.assertEqual(grown["vllm:generation_tokens_total"], 7)
        self.assertEqual(grown["vllm:request_success_total"], 1)
        self.assertEqual(grown["vllm:time_to_first_token_seconds_count"], 1)
        self.assertEqual(grown["vllm:inter_token_latency_seconds_count"], 6)
        self.assertEqual(grown["vllm:e2e_request_latency_seconds_count"], 1)
        self.assertGreater(reply.usage.prompt_tokens, 0)

    def test_content_type_is_prometheus_text(self):
        _, headers, text = self.server.request("GET", "/metrics")
        self.assertTrue(headers["content-type"].startswith("text/plain; version=0.0.4"))
        self.assertIn('model_name="' + MODEL + '"', text)

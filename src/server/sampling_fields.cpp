// One function per group of fields, in the order of vLLM's documentation.
#include "server/sampling_fields.h"

#include <algorithm>
#include <cctype>
#include <charconv>

namespace donar::server {
namespace {

constexpr int64_t kMaxChoices = 128;
constexpr size_t kMaxStops = 64;
constexpr size_t kMaxStopBytes = 4096;
constexpr std::string_view kNoGrammar = "structured output is not available yet; ask in the prompt";

void apply_generation_config(const json::object& config, CommonRequest& request) {
  const auto number = [&](const char* name) -> std::optional<double> {
    const json::value* value = config.if_contains(name);
    if (value == nullptr || !value->is_number()) return std::nullopt;
    return value->to_number<double>();
  };
  engine::SamplingParams& sampling = request.sampling;
  if (const auto value = number("temperature"); value && *value >= 0)
    sampling.temperature = static_cast<float>(*value);
  if (const auto value = number("top_p"); value && *value > 0 && *value <= 1)
    sampling.top_p = static_cast<float>(*value);
  if (const auto value = number("top_k"); value && *value > 0 && *value < INT32_MAX)
    sampling.top_k = static_cast<int>(*value);
  if (const auto value = number("min_p"); value && *value >= 0 && *value <= 1)
    sampling.min_p = static_cast<float>(*value);
  if (const auto value = number("repetition_penalty"); value && *value > 0)
    sampling.repetition_penalty = static_cast<float>(*value);
  if (const auto value = number("max_new_tokens"); value && *value >= 1 && *value < 9e15)
    request.max_tokens_cap = static_cast<int64_t>(*value);
}

void read_distribution(FieldReader& fields, engine::SamplingParams& sampling) {
  const auto bounded = [&](std::string_view name, float& out, auto valid, std::string_view rule) {
    const auto value = fields.number(name);
    if (!value) return;
    if (!valid(*value))
      fields.fail(name, fmt::format("{} must be {}, got {}.", name, rule, *value));
    out = static_cast<float>(*value);
  };
  const auto penalty = [](double v) { return v >= -2.0 && v <= 2.0; };
  bounded(
      "temperature", sampling.temperature, [](double v) { return v >= 0.0 && v <= 1e6; },
      "non-negative");
  bounded(
      "top_p", sampling.top_p, [](double v) { return v > 0.0 && v <= 1.0; }, "in (0, 1]");
  bounded(
      "min_p", sampling.min_p, [](double v) { return v >= 0.0 && v <= 1.0; }, "in [0, 1]");
  bounded("presence_penalty", sampling.presence_penalty, penalty, "in [-2, 2]");
  bounded("frequency_penalty", sampling.frequency_penalty, penalty, "in [-2, 2]");
  bounded(
      "repetition_penalty", sampling.repetition_penalty,
      [](double v) { return v > 0.0 && v <= 1e6; }, "greater than zero");
  if (const auto top_k = fields.integer("top_k")) {
    if (*top_k < -1)
      fields.fail("top_k",
                  fmt::format("top_k must be 0 (disable), or at least 1, got {}.", *top_k));
    sampling.top_k = static_cast<int>(std::clamp<int64_t>(*top_k, 0, INT32_MAX));
  }
  if (const auto seed = fields.integer("seed"); seed && *seed != -1)
    sampling.seed = static_cast<uint64_t>(*seed);
}

void check_ids(FieldReader& fields, std::string_view name, const std::vector<int32_t>& ids,
               const RequestLimits& limits) {
  for (const int32_t id : ids)
    if (limits.vocab_size > 0 && id >= limits.vocab_size)
      fields.fail(name, fmt::format("{} contains token id {}, but the vocabulary ends at {}", name,
                                    id, limits.vocab_size - 1));
}

void read_token_rules(FieldReader& fields, const RequestLimits& limits, CommonRequest& request) {
  engine::SamplingParams& sampling = request.sampling;
  if (const json::object* bias = fields.object("logit_bias")) {
    for (const auto& member : *bias) {
      const std::string_view key = member.key();
      int32_t id = -1;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      const json::value& value = member.value();
      if (error != std::errc() || end != key.data() + key.size() || id < 0 || !value.is_number()) {
        fields.fail(
            "logit_bias",
            fmt::format("logit_bias must map token ids to numbers, got \"{}\"", key.substr(0, 40)));
        break;
      }
      check_ids(fields, "logit_bias", {id}, limits);
      const double number = std::clamp(value.to_number<double>(), -100.0, 100.0);
      sampling.logit_bias.push_back({id, static_cast<float>(number)});
    }
  }
  if (auto allowed = fields.token_ids("allowed_token_ids")) {
    if (allowed->empty())
      fields.fail("allowed_token_ids", "allowed_token_ids must not be empty: leave it out");
    check_ids(fields, "allowed_token_ids", *allowed, limits);
    sampling.allowed_tokens = std::move(*allowed);
  }
  if (auto ids = fields.token_ids("stop_token_ids")) {
    check_ids(fields, "stop_token_ids", *ids, limits);
    sampling.stop_tokens = std::move(*ids);
  }
  if (auto stop = fields.strings("stop")) {
    if (stop->size() > kMaxStops)
      fields.fail("stop",
                  fmt::format("stop takes at most {} strings, got {}", kMaxStops, stop->size()));
    for (const std::string& text : *stop) {
      if (text.empty()) fields.fail("stop", "stop cannot contain an empty string.");
      if (text.size() > kMaxStopBytes)
        fields.fail("stop", fmt::format("a stop string has at most {} bytes", kMaxStopBytes));
    }
    request.stop = std::move(*stop);
  }
  if (auto words = fields.strings("bad_words")) {
    for (const std::string& word : *words)
      if (word.find_first_not_of(" \t\r\n") == std::string::npos)
        fields.fail("bad_words", "bad_words cannot contain an empty string.");
    request.bad_words = std::move(*words);
  }
  if (const auto min_tokens = fields.integer("min_tokens")) {
    if (*min_tokens < 0 || *min_tokens > INT32_MAX)
      fields.fail(
          "min_tokens",
          fmt::format("min_tokens must be greater than or equal to 0, got {}.", *min_tokens));
    sampling.min_tokens = static_cast<int>(std::clamp<int64_t>(*min_tokens, 0, INT32_MAX));
  }
  sampling.ignore_eos = fields.boolean("ignore_eos").value_or(false);
}

void read_output(FieldReader& fields, CommonRequest& request) {
  request.include_stop_str_in_output = fields.boolean("include_stop_str_in_output").value_or(false);
  request.skip_special_tokens = fields.boolean("skip_special_tokens").value_or(true);
  fields.boolean("spaces_between_special_tokens");  // byte-level decoding puts none either way
  request.echo = fields.boolean("echo").value_or(false);
  request.return_tokens_as_token_ids = fields.boolean("return_tokens_as_token_ids").value_or(false);
  request.return_token_ids = fields.boolean("return_token_ids").value_or(false);
  request.stream = fields.boolean("stream").value_or(false);
  if (const json::object* options = fields.object("stream_options")) {
    if (!request.stream)
      fields.fail("stream_options", "Stream options can only be defined when `stream=True`.");
    FieldReader inner(*options);
    request.include_usage = inner.boolean("include_usage").value_or(false);
    request.continuous_usage_stats =
        inner.boolean("continuous_usage_stats").value_or(false) && request.include_usage;
    if (inner.error()) fields.fail("stream_options", "stream_options." + inner.error()->message);
  }
}

void read_prompt_rules(FieldReader& fields, const RequestLimits& limits, CommonRequest& request) {
  if (const auto keep = fields.integer("truncate_prompt_tokens")) {
    if (*keep < -1 || *keep == 0)
      fields.fail(
          "truncate_prompt_tokens",
          fmt::format("truncate_prompt_tokens must be at least 1, or -1 for what fits, got {}",
                      *keep));
    request.truncate_prompt_tokens = keep;
  }
  if (const auto salt = fields.string("cache_salt")) {
    if (salt->empty())
      fields.fail("cache_salt", "Parameter 'cache_salt' must be a non-empty string if provided.");
    request.cache_salt = *salt;
  }
  // -1, every token of the vocabulary, would be gigabytes.
  if (const auto count = fields.integer("prompt_logprobs")) {
    if (request.stream)
      fields.fail("prompt_logprobs", "`prompt_logprobs` are not available when `stream=True`.");
    check_logprob_count(fields, "prompt_logprobs", *count, limits);
    request.sampling.num_prompt_logprobs = static_cast<int>(*count);
  }
}

void read_refused(FieldReader& fields) {
  if (fields.boolean("use_beam_search").value_or(false))
    fields.fail("use_beam_search", "use_beam_search is not supported: use n and a temperature");
  if (const auto penalty = fields.number("length_penalty"); penalty && *penalty != 1.0)
    fields.fail("length_penalty", "length_penalty is not supported: it belongs to beam search");
  if (const auto priority = fields.integer("priority"); priority && *priority != 0)
    fields.fail("priority",
                fmt::format("Got priority {} but priority scheduling is not enabled: requests run "
                            "first come, first served",
                            *priority));
  if (const json::object* format = fields.object("response_format")) {
    const json::value* type = format->if_contains("type");
    if (type == nullptr || !type->is_string())
      fields.fail("response_format", "response_format needs a string field \"type\"");
    else if (type->get_string() != "text")
      fields.fail("response_format",
                  fmt::format("response_format of type \"{}\" is not supported: {}",
                              std::string_view(type->get_string()).substr(0, 40), kNoGrammar));
  }
  fields.refuse(
      {"structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
       "structural_tag", "guided_decoding_backend", "guided_whitespace_pattern"},
      kNoGrammar);
  fields.refuse({"logits_processors"}, "only the built-in sampling rules run here");
  fields.refuse({"kv_transfer_params"}, "this server does not hand over KV caches");
  fields.refuse({"vllm_xargs", "mm_processor_kwargs", "media_io_kwargs"}, "");
}

}  // namespace

void check_logprob_count(FieldReader& fields, std::string_view name, int64_t count,
                         const RequestLimits& limits) {
  if (count < 0) {
    fields.fail(name, fmt::format("`{}` must be a positive value, got {}.", name, count));
  } else if (count > limits.max_logprobs) {
    fields.fail(name, fmt::format("Requested {} of {}, which is greater than max allowed: {}", name,
                                  count, limits.max_logprobs));
  }
}

CommonRequest read_common_fields(FieldReader& fields, const RequestLimits& limits) {
  CommonRequest request;
  if (limits.generation_config != nullptr)
    apply_generation_config(*limits.generation_config, request);
  request.model = fields.string("model");
  if (const auto id = fields.string("request_id")) {
    const bool harmless =
        !id->empty() && id->size() <= 128 &&
        std::all_of(id->begin(), id->end(), [](unsigned char c) { return std::isgraph(c); });
    if (!harmless)
      fields.fail("request_id", "request_id must be 1 to 128 printable ASCII characters");
    request.request_id = *id;
  }
  if (const auto n = fields.integer("n")) {
    if (*n < 1) fields.fail("n", fmt::format("n must be at least 1, got {}.", *n));
    if (*n > kMaxChoices)
      fields.fail("n", fmt::format("n must be at most {}, got {}.", kMaxChoices, *n));
    request.n = static_cast<int>(std::clamp<int64_t>(*n, 1, kMaxChoices));
  }
  read_distribution(fields, request.sampling);
  read_token_rules(fields, limits, request);
  read_output(fields, request);
  read_prompt_rules(fields, limits, request);
  read_refused(fields);
  // What OpenAI's clients send along, and what routers add.
  fields.ignore({"user", "metadata", "store", "service_tier", "safety_identifier",
                 "prompt_cache_key", "prompt_cache_retention", "no_stop_trim", "separate_reasoning",
                 "stream_reasoning", "return_hidden_states", "include_reasoning"});
  return request;
}

}  // namespace donar::server

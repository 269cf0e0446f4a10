#include "app/load_text.h"

#include <algorithm>
#include <system_error>

#include "base/file.h"

namespace donar::app {
namespace {

namespace fs = std::filesystem;
using model::Checkpoint;

template <class T>
const T* find(const Checkpoint& checkpoint, std::string_view key) {
  const auto it = checkpoint.metadata.find(key);
  return it == checkpoint.metadata.end() ? nullptr : std::get_if<T>(&it->second);
}

std::string text_or(const Checkpoint& checkpoint, std::string_view key, std::string fallback) {
  const auto* value = find<std::string>(checkpoint, key);
  return value != nullptr ? *value : fallback;
}

bool bool_or(const Checkpoint& checkpoint, std::string_view key, bool fallback) {
  const auto* value = find<bool>(checkpoint, key);
  return value != nullptr ? *value : fallback;
}

// Token ids are stored as any integer type.
int64_t id_or_none(const Checkpoint& checkpoint, std::string_view key) {
  if (const auto* value = find<int64_t>(checkpoint, key)) return *value;
  if (const auto* value = find<uint64_t>(checkpoint, key)) return static_cast<int64_t>(*value);
  return -1;
}

// Turns end with these where the file names no end-of-turn id. Only control tokens count: as plain
// text they end nothing.
constexpr std::string_view kEndOfTurn[] = {"<|im_end|>",      "<|eot_id|>", "<|end|>",
                                           "<end_of_turn>",   "<|eom_id|>", "<|endoftext|>",
                                           "<|end_of_text|>", "<|return|>"};
constexpr int64_t kControlType = 3;

std::vector<int32_t> gguf_end_tokens(const Checkpoint& checkpoint,
                                     const text::GgufVocabulary& vocabulary) {
  std::vector<int32_t> ids;
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                          "tokenizer.ggml.eom_token_id"})
    if (const int64_t id = id_or_none(checkpoint, key); id >= 0)
      ids.push_back(static_cast<int32_t>(id));
  const size_t typed = std::min(vocabulary.tokens.size(), vocabulary.token_types.size());
  for (size_t i = 0; i < typed; ++i)
    if (vocabulary.token_types[i] == kControlType &&
        std::find(std::begin(kEndOfTurn), std::end(kEndOfTurn), vocabulary.tokens[i]) !=
            std::end(kEndOfTurn))
      ids.push_back(static_cast<int32_t>(i));
  return ids;
}

Result<std::shared_ptr<const text::ChatTemplate>> load_template(const Options& options,
                                                                const model::ModelFiles& files,
                                                                const text::Tokenizer& tokenizer) {
  using Shared = std::shared_ptr<const text::ChatTemplate>;
  const text::ChatTemplate::SpecialTokens& names = tokenizer.special_token_names();
  std::string source, origin;
  std::error_code ignored;
  if (!options.chat_template.empty()) {
    // A path unless it can only be a template: vLLM tells them apart by the braces too.
    const bool is_inline = options.chat_template.find_first_of("{}\n") != std::string::npos;
    if (is_inline) {
      source = options.chat_template;
      origin = "--chat-template";
    } else {
      Result<std::string> text = read_text_file(options.chat_template, size_t{4} << 20);
      if (!text) return fail(text.error().code, "--chat-template: {}", text.error().message);
      source = std::move(*text);
      origin = options.chat_template;
    }
  } else if (files.checkpoint.container == Checkpoint::Container::kGguf) {
    source = text_or(files.checkpoint, "tokenizer.chat_template", "");
    if (source.empty()) return Shared();
    origin = files.checkpoint.path.string() + " (tokenizer.chat_template)";
  } else {
    const bool elsewhere =
        !options.tokenizer.empty() && fs::is_directory(options.tokenizer, ignored);
    Result<text::ChatTemplate> found = text::ChatTemplate::from_directory(
        elsewhere ? fs::path(options.tokenizer) : files.checkpoint.path, names);
    if (found) return std::make_shared<const text::ChatTemplate>(std::move(*found));
    if (found.error().code == ErrorCode::kNotFound) return Shared();
    return forward_error(found);
  }
  Result<text::ChatTemplate> parsed = text::ChatTemplate::parse(std::move(source), names);
  if (!parsed)
    return fail(parsed.error().code, "chat template of {}: {}", origin, parsed.error().message);
  return std::make_shared<const text::ChatTemplate>(std::move(*parsed));
}

}  // namespace

Result<text::GgufVocabulary> gguf_vocabulary(const Checkpoint& checkpoint) {
  text::GgufVocabulary out;
  out.model = text_or(checkpoint, "tokenizer.ggml.model", "");
  out.pre = text_or(checkpoint, "tokenizer.ggml.pre", "default");
  const auto* tokens = find<std::vector<std::string>>(checkpoint, "tokenizer.ggml.tokens");
  if (out.model.empty() || tokens == nullptr)
    return fail(ErrorCode::kNotFound,
                "{} has no vocabulary (tokenizer.ggml.tokens); give a directory with "
                "tokenizer.json by --tokenizer",
                checkpoint.path.string());
  out.tokens = *tokens;
  if (const auto* scores = find<std::vector<double>>(checkpoint, "tokenizer.ggml.scores"))
    out.scores = *scores;
  if (const auto* types = find<std::vector<int64_t>>(checkpoint, "tokenizer.ggml.token_type"))
    out.token_types = *types;
  if (const auto* merges = find<std::vector<std::string>>(checkpoint, "tokenizer.ggml.merges"))
    out.merges = *merges;
  out.bos_id = id_or_none(checkpoint, "tokenizer.ggml.bos_token_id");
  out.eos_id = id_or_none(checkpoint, "tokenizer.ggml.eos_token_id");
  out.unknown_id = id_or_none(checkpoint, "tokenizer.ggml.unknown_token_id");
  out.padding_id = id_or_none(checkpoint, "tokenizer.ggml.padding_token_id");
  // SentencePiece vocabularies begin with BOS unless the file says otherwise; byte-level ones do
  // not.
  out.add_bos = bool_or(checkpoint, "tokenizer.ggml.add_bos_token", out.model == "llama");
  out.add_eos = bool_or(checkpoint, "tokenizer.ggml.add_eos_token", false);
  out.add_space_prefix = bool_or(checkpoint, "tokenizer.ggml.add_space_prefix", true);
  return out;
}

Result<ModelText> load_text(const Options& options, const model::ModelFiles& files) {
  ModelText out;
  const bool is_gguf = files.checkpoint.container == Checkpoint::Container::kGguf;
  if (is_gguf && options.tokenizer.empty()) {
    Result<text::GgufVocabulary> vocabulary = gguf_vocabulary(files.checkpoint);
    if (!vocabulary) return forward_error(vocabulary);
    out.end_tokens = gguf_end_tokens(files.checkpoint, *vocabulary);
    Result<text::Tokenizer> tokenizer = text::Tokenizer::from_gguf(*vocabulary);
    if (!tokenizer) return forward_error(tokenizer);
    out.tokenizer = std::make_shared<const text::Tokenizer>(std::move(*tokenizer));
  } else {
    Result<text::Tokenizer> tokenizer = text::Tokenizer::from_directory(
        options.tokenizer.empty() ? files.checkpoint.path : fs::path(options.tokenizer));
    if (!tokenizer) return forward_error(tokenizer);
    out.tokenizer = std::make_shared<const text::Tokenizer>(std::move(*tokenizer));
  }
  if (const std::optional<int32_t> eos = out.tokenizer->eos_id()) out.end_tokens.push_back(*eos);
  auto chat_template = load_template(options, files, *out.tokenizer);
  if (!chat_template) return forward_error(chat_template);
  out.chat_template = std::move(*chat_template);
  return out;
}

Result<json::object> load_generation_config(const std::string& where,
                                            const model::ModelFiles& files) {
  if (where == "auto") return files.generation_config;
  if (where == "vllm") return json::object();
  std::error_code ignored;
  const fs::path path = fs::is_directory(where, ignored)
                            ? fs::path(where) / "generation_config.json"
                            : fs::path(where);
  Result<std::string> text = read_text_file(path, size_t{1} << 20);
  if (!text) return fail(text.error().code, "--generation-config: {}", text.error().message);
  Result<json::value> value = parse_json(*text);
  if (!value) return fail(ErrorCode::kDataLoss, "{}: {}", path.string(), value.error().message);
  if (!value->is_object())
    return fail(ErrorCode::kDataLoss, "{} is not a JSON object", path.string());
  return value->get_object();
}

}  // namespace donar::app

// tokenizer.json by simdjson On-Demand (only here): walked once, vocabulary and merges straight
// into our own tables, the small components through the shared JSON parser.
#include <simdjson.h>

#include <boost/json/object.hpp>

#include "base/log.h"
#include "text/tokenizer_parts.h"

namespace donar::text {
namespace {

namespace ondemand = simdjson::ondemand;

// The standard names; a token named so is special even if the file does not say so.
constexpr std::string_view kNamedTokens[] = {"bos_token", "eos_token", "unk_token", "pad_token",
                                             "sep_token", "cls_token", "mask_token"};

struct FileToken {
  AddedToken token;
  int64_t id = -1;
};

// The "model" section. Strings point into the parser's buffer.
struct ModelSection {
  bool present = false;
  std::string type;
  BpeSource bpe;
  std::vector<double> scores;  // Unigram, by id
  int64_t unknown_id = -1;
  std::string unsupported;  // a setting that changes ids and that we do not have
};

struct Sections {
  ModelSection model;
  std::vector<FileToken> added;
  json::value normalizer, pre_tokenizer, post_processor, decoder;
};

// Raised inside the walk for what JSON allows and we do not.
struct BadContent {
  std::string message;
};

bool is_null(ondemand::value& value) { return value.type() == ondemand::json_type::null; }

std::string optional_string(ondemand::value value) {
  return is_null(value) ? std::string() : std::string(std::string_view(value.get_string()));
}

bool optional_bool(ondemand::value value) { return !is_null(value) && bool(value.get_bool()); }

int32_t token_id(int64_t id) {
  if (id < 0 || id > kMaxTokenId) throw BadContent{fmt::format("{} is not a token id", id)};
  return static_cast<int32_t>(id);
}

void add_token(std::string_view token, int32_t id, StringTable& vocabulary) {
  if (vocabulary.add(token, id)) return;
  throw BadContent{
      fmt::format("\"{}\" and \"{}\" have the same id {}", vocabulary.at(id), token, id)};
}

void read_vocabulary(ondemand::value value, StringTable& vocabulary, ModelSection& model) {
  if (value.type() == ondemand::json_type::array) {  // Unigram: [piece, score] by id
    for (auto element : value.get_array()) {
      const auto id = token_id(static_cast<int64_t>(model.scores.size()));
      int fields = 0;
      for (auto field : element.get_array()) {
        if (fields == 0) add_token(std::string_view(field.get_string()), id, vocabulary);
        if (fields == 1) model.scores.push_back(double(field.get_double()));
        ++fields;
      }
      if (fields != 2) throw BadContent{"a Unigram vocabulary entry must be [piece, score]"};
    }
    return;
  }
  for (auto field : value.get_object()) {
    const std::string_view token = field.unescaped_key();
    add_token(token, token_id(int64_t(field.value().get_int64())), vocabulary);
  }
}

void read_merges(ondemand::value value,
                 std::vector<std::pair<std::string_view, std::string_view>>& merges) {
  for (auto element : value.get_array()) {
    if (element.type() == ondemand::json_type::array) {
      std::string_view parts[2];
      size_t count = 0;
      for (auto part : element.get_array()) {
        const std::string_view text = part.get_string();
        if (count < 2) parts[count] = text;
        ++count;
      }
      if (count != 2)
        throw BadContent{fmt::format("merge {} does not have two parts", merges.size())};
      merges.emplace_back(parts[0], parts[1]);
      continue;
    }
    const std::string_view line = element.get_string();
    if (line.starts_with("#version")) continue;
    const size_t space = line.find(' ');
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
      throw BadContent{
          fmt::format("merge {} (\"{}\") does not have two parts", merges.size(), line)};
    }
    merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
}

void read_model(ondemand::object object, StringTable& vocabulary, ModelSection& model) {
  model.present = true;
  for (auto field : object) {
    const std::string_view key = field.unescaped_key();
    ondemand::value value = field.value();
    if (key == "type") {
      model.type = optional_string(value);
    } else if (key == "vocab") {
      read_vocabulary(value, vocabulary, model);
    } else if (key == "merges") {
      read_merges(value, model.bpe.merges);
    } else if (key == "unk_token") {
      model.bpe.unknown_token = optional_string(value);
    } else if (key == "unk_id") {
      if (!is_null(value)) model.unknown_id = value.get_int64();
    } else if (key == "fuse_unk") {
      model.bpe.fuse_unknown = optional_bool(value);
    } else if (key == "byte_fallback") {
      model.bpe.byte_fallback = optional_bool(value);
    } else if (key == "ignore_merges") {
      model.bpe.ignore_merges = optional_bool(value);
    } else if (key == "dropout") {
      if (!is_null(value) && double(value.get_double()) != 0) model.unsupported = "dropout";
    } else if (key == "continuing_subword_prefix" || key == "end_of_word_suffix") {
      if (!optional_string(value).empty()) model.unsupported = std::string(key);
    }
  }
}

void read_added_tokens(ondemand::array array, std::vector<FileToken>& added) {
  for (auto element : array) {
    FileToken entry;
    bool has_normalized = false;
    for (auto field : element.get_object()) {
      const std::string_view key = field.unescaped_key();
      ondemand::value value = field.value();
      if (key == "content") {
        entry.token.content = std::string_view(value.get_string());
      } else if (key == "id") {
        entry.id = value.get_int64();
      } else if (key == "single_word") {
        entry.token.single_word = optional_bool(value);
      } else if (key == "lstrip") {
        entry.token.lstrip = optional_bool(value);
      } else if (key == "rstrip") {
        entry.token.rstrip = optional_bool(value);
      } else if (key == "special") {
        entry.token.special = optional_bool(value);
      } else if (key == "normalized") {
        entry.token.normalized = optional_bool(value);
        has_normalized = true;
      }
    }
    if (!has_normalized) entry.token.normalized = !entry.token.special;
    added.push_back(std::move(entry));
  }
}

json::value read_component(ondemand::value value) {
  const std::string_view raw = simdjson::to_json_string(value);
  auto parsed = parse_json(raw);
  if (!parsed) throw BadContent{parsed.error().message};
  return std::move(*parsed);
}

void read_sections(ondemand::document& document, size_t bytes, StringTable& vocabulary,
                   Sections& sections) {
  vocabulary.reserve(bytes / 64, bytes / 6);
  for (auto field : document.get_object()) {
    const std::string_view key = field.unescaped_key();
    ondemand::value value = field.value();
    if (key == "model") {
      read_model(value.get_object(), vocabulary, sections.model);
    } else if (key == "added_tokens") {
      if (!is_null(value)) read_added_tokens(value.get_array(), sections.added);
    } else if (key == "normalizer") {
      sections.normalizer = read_component(value);
    } else if (key == "pre_tokenizer") {
      sections.pre_tokenizer = read_component(value);
    } else if (key == "post_processor") {
      sections.post_processor = read_component(value);
    } else if (key == "decoder") {
      sections.decoder = read_component(value);
    }
  }
}

// "<s>" or {"content": "<s>", ...}.
std::optional<std::string> token_text(const json::value& value) {
  if (value.is_string()) return std::string(value.get_string());
  const auto* object = value.if_object();
  const json::value* content = object != nullptr ? object->if_contains("content") : nullptr;
  if (content == nullptr || !content->is_string()) return std::nullopt;
  return std::string(content->get_string());
}

bool config_flag(const json::object& object, std::string_view key, bool missing) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_bool() ? value->get_bool() : missing;
}

// Tokens that only tokenizer_config.json lists, in the order of their ids.
void add_config_tokens(const json::object& config, TokenizerParts& parts) {
  const json::value* list = config.if_contains("added_tokens_decoder");
  const auto* object = list != nullptr ? list->if_object() : nullptr;
  if (object == nullptr) return;
  std::map<int64_t, AddedToken> missing;
  for (const auto& [id, value] : *object) {
    const auto content = token_text(value);
    if (!content || parts.added.find(*content) || !value.is_object()) continue;
    const json::object& fields = value.get_object();
    const bool special = config_flag(fields, "special", false);
    missing.emplace(
        std::strtoll(std::string(id).c_str(), nullptr, 10),
        AddedToken{*content, config_flag(fields, "single_word", false),
                   config_flag(fields, "lstrip", false), config_flag(fields, "rstrip", false),
                   config_flag(fields, "normalized", !special), special});
  }
  for (auto& [id, token] : missing) {
    const bool usable = id >= 0 && id <= kMaxTokenId;
    parts.added.add(std::move(token), parts.vocabulary, usable ? static_cast<int32_t>(id) : -1);
  }
}

void add_named_tokens(const json::object& config, TokenizerParts& parts) {
  for (const auto& [key, value] : config) {
    if (!std::string_view(key).ends_with("_token")) continue;
    if (auto text = token_text(value))
      parts.special_token_names[std::string(key)] = std::move(*text);
  }
  for (const std::string_view name : kNamedTokens) {
    const auto named = parts.special_token_names.find(std::string(name));
    if (named == parts.special_token_names.end()) continue;
    AddedToken token{named->second};
    if (const auto id = parts.added.find(named->second)) {
      token = *parts.added.find(*id);
    } else if (parts.vocabulary.find(named->second) < 0) {
      continue;  // a name without a token: the template may still print it
    }
    token.special = true;
    parts.added.add(std::move(token), parts.vocabulary);
  }
}

// The Llama-2 family's classes rebuild their post-processor from two flags of
// tokenizer_config.json.
void apply_bos_eos_flags(const json::object& config, TokenizerParts& parts) {
  const json::value* name = config.if_contains("tokenizer_class");
  if (name == nullptr || !name->is_string()) return;
  const std::string_view cls = name->get_string();
  if (cls != "LlamaTokenizer" && cls != "LlamaTokenizerFast" && cls != "CodeLlamaTokenizer" &&
      cls != "CodeLlamaTokenizerFast" && cls != "GemmaTokenizer" && cls != "GemmaTokenizerFast") {
    return;
  }
  if (!config.contains("add_bos_token") && !config.contains("add_eos_token")) return;
  const auto ids_of = [&](bool wanted, const char* token) {
    std::vector<int32_t> ids;
    const auto named = parts.special_token_names.find(token);
    if (!wanted || named == parts.special_token_names.end()) return ids;
    if (const auto id = parts.added.find(named->second)) ids.push_back(*id);
    return ids;
  };
  parts.post_processor.prefix = ids_of(config_flag(config, "add_bos_token", true), "bos_token");
  parts.post_processor.suffix = ids_of(config_flag(config, "add_eos_token", false), "eos_token");
}

Result<void> named(Result<void> result, const std::string& name) {
  if (!result) result.error().message = fmt::format("{}: {}", name, result.error().message);
  return result;
}

Result<void> assemble(Sections sections, const std::string& name, const json::object& config,
                      TokenizerParts& parts) {
  ModelSection& model = sections.model;
  if (!model.present) return fail(ErrorCode::kDataLoss, "{}: no \"model\" section", name);
  // Files of 2020 have no type; only BPE has merges.
  if (model.type.empty() && !model.bpe.merges.empty()) model.type = "BPE";
  if (model.type != "BPE" && model.type != "Unigram") {
    return fail(ErrorCode::kUnsupported,
                "{}: the model \"{}\" is not supported yet; BPE and Unigram are", name, model.type);
  }
  if (!model.unsupported.empty()) {
    return fail(ErrorCode::kUnsupported, "{}: the model's \"{}\" is not supported yet", name,
                model.unsupported);
  }
  if (parts.vocabulary.count() == 0)
    return fail(ErrorCode::kDataLoss, "{}: empty vocabulary", name);
  if ((model.type == "Unigram") != !model.scores.empty()) {
    return fail(ErrorCode::kDataLoss, "{}: the vocabulary does not fit the model \"{}\"", name,
                model.type);
  }

  for (FileToken& entry : sections.added) {
    const std::string content = entry.token.content;
    const bool usable = entry.id >= 0 && entry.id <= kMaxTokenId;
    parts.added.add(std::move(entry.token), parts.vocabulary,
                    usable ? static_cast<int32_t>(entry.id) : -1);
    const auto id = parts.added.find(content);
    if (id && entry.id >= 0 && entry.id != *id) {
      log_warn("{}: the added token \"{}\" has the id {}, not {}, which is taken or too large",
               name, content, *id, entry.id);
    }
  }
  add_config_tokens(config, parts);
  add_named_tokens(config, parts);

  if (auto r = named(add_normalizer(sections.normalizer, parts.normalizer), name); !r) return r;
  if (auto r = named(add_pre_tokenizer(sections.pre_tokenizer, parts.pre_tokenizer), name); !r)
    return r;
  if (auto r = named(add_post_processor(sections.post_processor, parts.post_processor), name); !r)
    return r;
  if (auto r = named(add_decoder(sections.decoder, parts.decoder), name); !r) return r;
  parts.added.finish(parts.normalizer);
  apply_bos_eos_flags(config, parts);

  if (model.type == "BPE") {
    if (auto r = build_bpe(model.bpe, name, parts); !r) return r;
    hide_special_tokens(parts);
  } else {
    if (model.unknown_id >= static_cast<int64_t>(model.scores.size())) {
      return fail(ErrorCode::kDataLoss, "{}: unk_id {} is not in the vocabulary of {} pieces", name,
                  model.unknown_id, model.scores.size());
    }
    hide_special_tokens(parts);
    parts.model.emplace<UnigramModel>(
        parts.vocabulary, std::move(model.scores),
        UnigramModel::Options{static_cast<int32_t>(std::max<int64_t>(model.unknown_id, -1)),
                              model.bpe.byte_fallback});
  }
  finish_decoding(parts);
  return {};
}

}  // namespace

Result<std::unique_ptr<TokenizerParts>> parse_tokenizer_json(const std::string& padded, size_t size,
                                                             const std::string& name,
                                                             const json::object& tokenizer_config) {
  auto parts = std::make_unique<TokenizerParts>();
  static_assert(kJsonPadding >= simdjson::SIMDJSON_PADDING);
  ondemand::parser parser;
  Sections sections;
  ondemand::document document;
  bool started = false;
  try {
    document = parser.iterate(simdjson::padded_string_view(padded.data(), size, padded.size()));
    started = true;
    read_sections(document, size, parts->vocabulary, sections);
  } catch (const simdjson::simdjson_error& error) {
    const char* place = nullptr;
    const bool known = started && document.current_location().get(place) == simdjson::SUCCESS;
    return fail(ErrorCode::kDataLoss, "{}: malformed at byte {}: {}", name,
                known     ? place - padded.data()
                : started ? static_cast<ptrdiff_t>(size)
                          : 0,
                error.what());
  } catch (const BadContent& error) {
    return fail(ErrorCode::kDataLoss, "{}: {}", name, error.message);
  }
  auto assembled = assemble(std::move(sections), name, tokenizer_config, *parts);
  if (!assembled) return forward_error(assembled);
  return parts;
}

}  // namespace donar::text

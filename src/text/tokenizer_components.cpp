// Normalizers, pre-tokenizers, post-processors and decoders of tokenizer.json, by their "type".
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "text/tokenizer_parts.h"
#include "text/unicode.h"

namespace donar::text {
namespace {

std::string type_of(const json::value& component) {
  const auto* object = component.if_object();
  const auto* type = object != nullptr ? object->if_contains("type") : nullptr;
  return type != nullptr && type->is_string() ? std::string(type->get_string()) : std::string();
}

tl::unexpected<Error> unknown(const char* kind, const json::value& component) {
  const std::string type = type_of(component);
  if (type.empty()) return fail(ErrorCode::kDataLoss, "a {} without a \"type\"", kind);
  return fail(ErrorCode::kUnsupported, "the {} \"{}\" is not supported yet", kind, type);
}

Result<bool> flag(const json::object& object, std::string_view key, bool missing) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr || value->is_null()) return missing;
  if (!value->is_bool()) return fail(ErrorCode::kDataLoss, "\"{}\" must be true or false", key);
  return value->get_bool();
}

Result<std::string> text(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr || !value->is_string()) {
    return fail(ErrorCode::kDataLoss, "\"{}\" must be a string", key);
  }
  return std::string(value->get_string());
}

Result<size_t> count(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr) return size_t{0};
  if (!value->is_int64() || value->get_int64() < 0) {
    return fail(ErrorCode::kDataLoss, "\"{}\" must be a number that is not negative", key);
  }
  return static_cast<size_t>(value->get_int64());
}

// {"String": "..."} or {"Regex": "..."}; older files have a plain string.
Result<SplitPattern> pattern_of(const json::object& object) {
  const json::value* value = object.if_contains("pattern");
  if (value != nullptr && value->is_string())
    return SplitPattern::literal(std::string(value->get_string()));
  if (value != nullptr && value->is_object()) {
    const json::object& inner = value->get_object();
    if (inner.contains("Regex")) {
      auto expression = text(inner, "Regex");
      if (!expression) return forward_error(expression);
      return SplitPattern::regex(*expression);
    }
    auto literal = text(inner, "String");
    if (!literal) return forward_error(literal);
    return SplitPattern::literal(std::move(*literal));
  }
  return fail(ErrorCode::kDataLoss,
              "\"pattern\" must be {{\"String\": ...}} or {{\"Regex\": ...}}");
}

// Applies `add` to each element of the list `key`.
template <class Target>
Result<void> sequence(const json::object& object, std::string_view key, Target& target,
                      Result<void> (*add)(const json::value&, Target&)) {
  const json::value* list = object.if_contains(key);
  if (list == nullptr || !list->is_array()) {
    return fail(ErrorCode::kDataLoss, "a Sequence needs the list \"{}\"", key);
  }
  for (const json::value& element : list->get_array()) {
    auto added = add(element, target);
    if (!added) return forward_error(added);
  }
  return {};
}

Result<SplitBehavior> behavior(const json::object& object) {
  auto name = text(object, "behavior");
  if (!name) return forward_error(name);
  if (*name == "Removed") return SplitBehavior::kRemoved;
  if (*name == "Isolated") return SplitBehavior::kIsolated;
  if (*name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (*name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (*name == "Contiguous") return SplitBehavior::kContiguous;
  return fail(ErrorCode::kUnsupported, "the Split behavior \"{}\" is not supported yet", *name);
}

Result<PrependScheme> prepend_scheme(const json::object& object) {
  auto legacy = flag(object, "add_prefix_space", true);
  if (!legacy) return forward_error(legacy);
  if (!object.contains("prepend_scheme"))
    return *legacy ? PrependScheme::kAlways : PrependScheme::kNever;
  auto name = text(object, "prepend_scheme");
  if (!name) return forward_error(name);
  if (*name == "never" || !*legacy) return PrependScheme::kNever;
  if (*name == "always") return PrependScheme::kAlways;
  if (*name == "first") return PrependScheme::kFirst;
  return fail(ErrorCode::kUnsupported, "the Metaspace prepend_scheme \"{}\" is not supported yet",
              *name);
}

// One character; the default is U+2581.
Result<std::string> replacement(const json::object& object) {
  auto value = text(object, "replacement");
  if (!value) return forward_error(value);
  if (value->empty() || character_at(value->data()).length != value->size()) {
    return fail(ErrorCode::kDataLoss, "a Metaspace \"replacement\" must be one character");
  }
  return value;
}

Result<void> add_template(const json::object& object, PostProcessor& post_processor) {
  const auto malformed = [](const char* what) {
    return fail(ErrorCode::kDataLoss, "TemplateProcessing: {}", what);
  };
  const json::value* single = object.if_contains("single");
  const json::value* specials = object.if_contains("special_tokens");
  if (single == nullptr || !single->is_array()) return malformed("\"single\" must be a list");
  PostProcessor around;
  bool seen_text = false;
  for (const json::value& piece : single->get_array()) {
    const auto* entry = piece.if_object();
    if (entry == nullptr) return malformed("a piece must be an object");
    const bool is_text = entry->contains("Sequence");
    const json::value* inner = entry->if_contains(is_text ? "Sequence" : "SpecialToken");
    const auto* named = inner != nullptr ? inner->if_object() : nullptr;
    if (named == nullptr) return malformed("a piece must be a Sequence or a SpecialToken");
    auto id = text(*named, "id");
    if (!id) return forward_error(id);
    if (is_text) {
      if (*id != "A" || seen_text) return malformed("\"single\" must have the sequence A once");
      seen_text = true;
      continue;
    }
    const auto* table = specials != nullptr ? specials->if_object() : nullptr;
    const json::value* token = table != nullptr ? table->if_contains(*id) : nullptr;
    const auto* fields = token != nullptr ? token->if_object() : nullptr;
    const json::value* ids = fields != nullptr ? fields->if_contains("ids") : nullptr;
    if (ids == nullptr || !ids->is_array()) return malformed("a special token without ids");
    for (const json::value& number : ids->get_array()) {
      if (!number.is_int64() || number.get_int64() < 0 || number.get_int64() > kMaxTokenId) {
        return malformed("a special token's id is not a token id");
      }
      auto& side = seen_text ? around.suffix : around.prefix;
      side.push_back(static_cast<int32_t>(number.get_int64()));
    }
  }
  if (!seen_text) return malformed("\"single\" must have the sequence A once");
  // A later template goes around an earlier one.
  auto& prefix = post_processor.prefix;
  auto& suffix = post_processor.suffix;
  prefix.insert(prefix.begin(), around.prefix.begin(), around.prefix.end());
  suffix.insert(suffix.end(), around.suffix.begin(), around.suffix.end());
  return {};
}

}  // namespace

Result<void> add_normalizer(const json::value& component, Normalizer& normalizer) {
  if (component.is_null()) return {};
  const std::string type = type_of(component);
  if (type == "Sequence")
    return sequence(component.get_object(), "normalizers", normalizer, add_normalizer);
  if (type == "NFC") {
    normalizer.add(NormalizeForm{UnicodeForm::kNfc});
  } else if (type == "NFD") {
    normalizer.add(NormalizeForm{UnicodeForm::kNfd});
  } else if (type == "NFKC") {
    normalizer.add(NormalizeForm{UnicodeForm::kNfkc});
  } else if (type == "NFKD") {
    normalizer.add(NormalizeForm{UnicodeForm::kNfkd});
  } else if (type == "Lowercase") {
    normalizer.add(NormalizeLowercase{});
  } else if (type == "Strip") {
    auto left = flag(component.get_object(), "strip_left", true);
    if (!left) return forward_error(left);
    auto right = flag(component.get_object(), "strip_right", true);
    if (!right) return forward_error(right);
    normalizer.add(NormalizeStrip{*left, *right});
  } else if (type == "Prepend") {
    auto prepend = text(component.get_object(), "prepend");
    if (!prepend) return forward_error(prepend);
    normalizer.add(NormalizePrepend{std::move(*prepend)});
  } else if (type == "Replace") {
    auto what = pattern_of(component.get_object());
    if (!what) return forward_error(what);
    auto content = text(component.get_object(), "content");
    if (!content) return forward_error(content);
    normalizer.add(NormalizeReplace{std::move(*what), std::move(*content)});
  } else {
    return unknown("normalizer", component);
  }
  return {};
}

Result<void> add_pre_tokenizer(const json::value& component, PreTokenizer& pre_tokenizer) {
  if (component.is_null()) return {};
  const std::string type = type_of(component);
  if (type == "Sequence") {
    return sequence(component.get_object(), "pretokenizers", pre_tokenizer, add_pre_tokenizer);
  }
  if (type == "Split") {
    const json::object& object = component.get_object();
    auto what = pattern_of(object);
    if (!what) return forward_error(what);
    auto how = behavior(object);
    if (!how) return forward_error(how);
    auto invert = flag(object, "invert", false);
    if (!invert) return forward_error(invert);
    pre_tokenizer.add(PreSplit{std::move(*what), *how, *invert});
  } else if (type == "ByteLevel") {
    auto prefix = flag(component.get_object(), "add_prefix_space", true);
    if (!prefix) return forward_error(prefix);
    auto regex = flag(component.get_object(), "use_regex", true);
    if (!regex) return forward_error(regex);
    pre_tokenizer.add(PreByteLevel{*prefix, *regex});
  } else if (type == "Digits") {
    auto individual = flag(component.get_object(), "individual_digits", false);
    if (!individual) return forward_error(individual);
    pre_tokenizer.add(PreDigits{*individual});
  } else if (type == "Metaspace") {
    const json::object& object = component.get_object();
    auto character = replacement(object);
    if (!character) return forward_error(character);
    auto scheme = prepend_scheme(object);
    if (!scheme) return forward_error(scheme);
    auto split = flag(object, "split", true);
    if (!split) return forward_error(split);
    pre_tokenizer.add(PreMetaspace{std::move(*character), *scheme, *split});
  } else {
    return unknown("pre-tokenizer", component);
  }
  return {};
}

Result<void> add_post_processor(const json::value& component, PostProcessor& post_processor) {
  if (component.is_null()) return {};
  const std::string type = type_of(component);
  if (type == "ByteLevel") return {};  // about offsets only
  if (type == "TemplateProcessing") return add_template(component.get_object(), post_processor);
  if (type == "Sequence") {
    return sequence(component.get_object(), "processors", post_processor, add_post_processor);
  }
  return unknown("post-processor", component);
}

Result<void> add_decoder(const json::value& component, TokenDecoder& decoder) {
  if (component.is_null()) return {};
  const std::string type = type_of(component);
  if (type == "Sequence") {
    decoder.mark_present();
    return sequence(component.get_object(), "decoders", decoder, add_decoder);
  }
  if (type == "ByteLevel") {
    decoder.add(DecodeByteLevel{});
  } else if (type == "ByteFallback") {
    decoder.add(DecodeByteFallback{});
  } else if (type == "Fuse") {
    decoder.add(DecodeFuse{});
  } else if (type == "Replace") {
    auto what = pattern_of(component.get_object());
    if (!what) return forward_error(what);
    auto content = text(component.get_object(), "content");
    if (!content) return forward_error(content);
    decoder.add(DecodeReplace{std::move(*what), std::move(*content)});
  } else if (type == "Strip") {
    const json::object& object = component.get_object();
    auto content = text(object, "content");
    if (!content) return forward_error(content);
    if (content->empty() || character_at(content->data()).length != content->size()) {
      return fail(ErrorCode::kDataLoss, "a Strip decoder's \"content\" must be one character");
    }
    auto start = count(object, "start");
    if (!start) return forward_error(start);
    auto stop = count(object, "stop");
    if (!stop) return forward_error(stop);
    decoder.add(DecodeStrip{character_at(content->data()).code, *start, *stop});
  } else if (type == "Metaspace") {
    auto character = replacement(component.get_object());
    if (!character) return forward_error(character);
    auto scheme = prepend_scheme(component.get_object());
    if (!scheme) return forward_error(scheme);
    decoder.add(DecodeMetaspace{std::move(*character), *scheme});
  } else {
    return unknown("decoder", component);
  }
  return {};
}

}  // namespace donar::text

// The production reader lives in model/, which text may not depend on; this one is for tests of the
// tokenizer.
#include "tests/text/gguf_vocabulary.h"

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

namespace donar::text {
namespace {

class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : file_(path, std::ios::binary) {}

  template <class T>
  T number() {
    T value{};
    file_.read(reinterpret_cast<char*>(&value), sizeof(value));
    return value;
  }
  std::string string() {
    std::string text(number<uint64_t>(), '\0');
    file_.read(text.data(), static_cast<std::streamsize>(text.size()));
    return text;
  }
  bool ok() const { return file_.good(); }

 private:
  std::ifstream file_;
};

// One value as the vocabulary can use it: a number, or a string.
struct Value {
  double number = 0;
  std::string text;
};

Value read_value(Reader& reader, int32_t type) {
  switch (type) {
    case 0:
      return {double(reader.number<uint8_t>()), {}};
    case 1:
      return {double(reader.number<int8_t>()), {}};
    case 2:
      return {double(reader.number<uint16_t>()), {}};
    case 3:
      return {double(reader.number<int16_t>()), {}};
    case 4:
      return {double(reader.number<uint32_t>()), {}};
    case 5:
      return {double(reader.number<int32_t>()), {}};
    case 6:
      return {double(reader.number<float>()), {}};
    case 7:
      return {double(reader.number<uint8_t>()), {}};
    case 8:
      return {0, reader.string()};
    case 10:
      return {double(reader.number<uint64_t>()), {}};
    case 11:
      return {double(reader.number<int64_t>()), {}};
    default:
      return {reader.number<double>(), {}};
  }
}

void take(GgufVocabulary& out, const std::string& key, const std::vector<Value>& values) {
  const auto id = [&] { return static_cast<int64_t>(values.at(0).number); };
  if (key == "model") out.model = values.at(0).text;
  if (key == "pre") out.pre = values.at(0).text;
  if (key == "bos_token_id") out.bos_id = id();
  if (key == "eos_token_id") out.eos_id = id();
  if (key == "unknown_token_id") out.unknown_id = id();
  if (key == "padding_token_id") out.padding_id = id();
  if (key == "add_bos_token") out.add_bos = id() != 0;
  if (key == "add_eos_token") out.add_eos = id() != 0;
  if (key == "add_space_prefix") out.add_space_prefix = id() != 0;
  for (const Value& value : values) {
    if (key == "tokens") out.tokens.push_back(value.text);
    if (key == "merges") out.merges.push_back(value.text);
    if (key == "scores") out.scores.push_back(value.number);
    if (key == "token_type") out.token_types.push_back(static_cast<int64_t>(value.number));
  }
}

}  // namespace

std::optional<GgufVocabulary> read_gguf_vocabulary(const std::filesystem::path& path) {
  Reader reader(path);
  if (!reader.ok() || reader.number<uint32_t>() != 0x46554747) return std::nullopt;  // "GGUF"
  const auto version = reader.number<uint32_t>();
  if (version != 2 && version != 3) return std::nullopt;
  reader.number<int64_t>();
  const auto keys = reader.number<int64_t>();
  constexpr std::string_view kPrefix = "tokenizer.ggml.";
  GgufVocabulary vocabulary;
  for (int64_t i = 0; i < keys && reader.ok(); ++i) {
    const std::string key = reader.string();
    int32_t type = reader.number<int32_t>();
    uint64_t count = 1;
    if (type == 9) {
      type = reader.number<int32_t>();
      count = reader.number<uint64_t>();
    }
    std::vector<Value> values;
    for (uint64_t n = 0; n < count && reader.ok(); ++n) values.push_back(read_value(reader, type));
    if (reader.ok() && key.starts_with(kPrefix))
      take(vocabulary, key.substr(kPrefix.size()), values);
  }
  if (!reader.ok()) return std::nullopt;
  return vocabulary;
}

}  // namespace donar::text

// A tokenizer at the end of a pipe, for tools/check_tokenizer.py: one JSON request per line, one
// JSON reply per line.
//   tokenizer_dump MODEL_DIRECTORY | FILE.gguf
//   {"encode": text, "special": bool}           -> [id, ...]
//   {"decode": [id, ...], "skip": bool}         -> text
//   {"stream": [id, ...], "skip": bool}         -> [text added by each id, ..., text of the end]
//   {"time": text}                              -> milliseconds of the fastest of five encodes
#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <string>

#include "base/json.h"
#include "tests/text/gguf_vocabulary.h"
#include "text/tokenizer.h"

namespace donar::text {
namespace {

Result<Tokenizer> load(const std::filesystem::path& path) {
  if (path.extension() != ".gguf") return Tokenizer::from_directory(path);
  const auto vocabulary = read_gguf_vocabulary(path);
  if (!vocabulary) return fail(ErrorCode::kDataLoss, "{}: not a GGUF file", path.string());
  return Tokenizer::from_gguf(*vocabulary);
}

std::vector<int32_t> ids_of(const json::value& list) {
  std::vector<int32_t> ids;
  for (const json::value& id : list.as_array()) ids.push_back(static_cast<int32_t>(id.as_int64()));
  return ids;
}

double milliseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

json::value answer(const Tokenizer& tokenizer, const json::object& request) {
  const auto flag = [&](const char* key) {
    const json::value* value = request.if_contains(key);
    return value != nullptr && value->as_bool();
  };
  if (const json::value* text = request.if_contains("encode")) {
    json::array ids;
    for (const int32_t id :
         tokenizer.encode(text->as_string(), {.add_special_tokens = flag("special")})) {
      ids.push_back(id);
    }
    return ids;
  }
  if (const json::value* list = request.if_contains("decode")) {
    return json::value(json::string(tokenizer.decode(ids_of(*list), flag("skip"))));
  }
  if (const json::value* list = request.if_contains("stream")) {
    StreamDecoder decoder(tokenizer, flag("skip"));
    json::array parts;
    for (const int32_t id : ids_of(*list))
      parts.push_back(json::value(json::string(decoder.push(id))));
    parts.push_back(json::value(json::string(decoder.flush())));
    return parts;
  }
  const json::string& text = request.at("time").as_string();
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    tokenizer.encode(text);
    best = std::min(best, milliseconds_since(start));
  }
  return best;
}

int run(const char* path) {
  const auto start = std::chrono::steady_clock::now();
  auto tokenizer = load(path);
  if (!tokenizer) {
    std::fprintf(stderr, "%s\n", tokenizer.error().message.c_str());
    return 1;
  }
  std::fprintf(stderr, "%s: %lld ids, loaded in %.1f ms\n", path,
               static_cast<long long>(tokenizer->vocab_size()), milliseconds_since(start));
  for (std::string line; std::getline(std::cin, line);) {
    auto request = parse_json(line);
    if (!request || !request->is_object()) {
      std::fprintf(stderr, "not a JSON object: %s\n", line.c_str());
      return 1;
    }
    std::cout << json::serialize(answer(*tokenizer, request->get_object())) << '\n' << std::flush;
  }
  return 0;
}

}  // namespace
}  // namespace donar::text

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: tokenizer_dump MODEL_DIRECTORY | FILE.gguf < requests\n");
    return 2;
  }
  return donar::text::run(argv[1]);
}

// tokenizer.json, and texts through whatever tokenizer comes of it. The input is a tokenizer.json,
// a zero byte, a text; without a zero byte the text is the JSON itself. Seeds: python3 -c with
// tests/data/text/tokenizer_cases.json.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "text/tokenizer.h"
#include "text/unicode.h"

using donar::text::ByteRange;
using donar::text::StreamDecoder;
using donar::text::Tokenizer;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = input.find('\0');
  const std::string_view json = input.substr(0, zero);
  const std::string_view text = zero == std::string_view::npos ? json : input.substr(zero + 1);
  const auto tokenizer = Tokenizer::from_json(json, json);
  if (!tokenizer) return 0;
  const ByteRange middle{text.size() / 3, text.size() / 2};
  const auto ids = tokenizer->encode(text, {.add_special_tokens = true, .untrusted = {&middle, 1}});
  StreamDecoder decoder(*tokenizer, /*skip_special_tokens=*/false);
  std::string streamed;
  for (const int32_t id : ids) streamed += decoder.push(id);
  streamed += decoder.flush();
  const std::string whole = tokenizer->decode(ids, /*skip_special_tokens=*/false);
  for (const std::string& out : {streamed, whole}) {
    if (donar::text::valid_utf8_prefix(out) != out.size()) std::abort();
  }
  return 0;
}

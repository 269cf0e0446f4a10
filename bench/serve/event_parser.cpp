#include "serve/event_parser.h"

namespace donar::bench::serve {
namespace {

// Where the event that begins at `begin` ends, and where the next begins; events end with an empty
// line.
struct End {
  size_t end = std::string_view::npos, next = std::string_view::npos;
};
End find_end(std::string_view text, size_t begin) {
  for (size_t at = text.find('\n', begin); at != std::string_view::npos;
       at = text.find('\n', at + 1)) {
    if (at + 1 < text.size() && text[at + 1] == '\n') return {at, at + 2};
    if (at + 2 < text.size() && text[at + 1] == '\r' && text[at + 2] == '\n') return {at, at + 3};
  }
  return {};
}

}  // namespace

void EventParser::take(std::string_view piece, TimePoint now, Record& record) {
  // Mostly a piece is whole events, and nothing needs to be copied.
  if (!pending_.empty()) pending_.append(piece);
  const std::string_view text = pending_.empty() ? piece : std::string_view(pending_);
  size_t begin = 0;
  for (End at = find_end(text, begin); at.end != std::string_view::npos;
       at = find_end(text, begin)) {
    event(text.substr(begin, at.end - begin), now, record);
    begin = at.next;
  }
  if (pending_.empty())
    pending_.assign(text.substr(begin));
  else
    pending_.erase(0, begin);
}

void EventParser::event(std::string_view text, TimePoint now, Record& record) {
  if (!text.starts_with("data:")) return;  // a comment or another field
  text.remove_prefix(5);
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  if (text.starts_with("[DONE]")) return;
  padded_.assign(text);
  padded_.reserve(padded_.size() + simdjson::SIMDJSON_PADDING);
  simdjson::dom::object object;
  if (json_.parse(padded_.data(), padded_.size(), /*realloc_if_needed=*/false).get(object) !=
      simdjson::SUCCESS) {
    record.error = "an event is no JSON object: " + std::string(text.substr(0, 200));
    return;
  }
  simdjson::dom::element found;
  if (object["error"].get(found) == simdjson::SUCCESS && !found.is_null())
    record.error = simdjson::to_string(found).substr(0, 300);
  simdjson::dom::array choices;
  if (object["choices"].get(choices) == simdjson::SUCCESS && choices.size() > 0)
    record.tokens.push_back(now);
  simdjson::dom::object usage;
  if (object["usage"].get(usage) == simdjson::SUCCESS) {
    int64_t count = 0;
    if (usage["prompt_tokens"].get(count) == simdjson::SUCCESS) record.input_tokens = count;
    if (usage["completion_tokens"].get(count) == simdjson::SUCCESS) record.output_tokens = count;
  }
}

}  // namespace donar::bench::serve

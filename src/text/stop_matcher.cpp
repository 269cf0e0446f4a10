// The held text is a proper prefix of some stop string. A match is decided as if characters came
// one by one, so that it does not depend on how the text was cut: the stop that is complete first
// wins, of those the longest.
#include <algorithm>
#include <utility>

#include "text/tokenizer.h"

namespace donar::text {

StopMatcher::StopMatcher(std::vector<std::string> stops, bool include_stop_in_output)
    : stops_(std::move(stops)), include_stop_in_output_(include_stop_in_output) {
  std::erase_if(stops_, [](const std::string& stop) { return stop.empty(); });
}

std::string StopMatcher::push(std::string_view text) {
  if (matched_) return {};
  held_ += text;
  size_t best_end = std::string::npos;
  const std::string* best = nullptr;
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos) continue;
    const size_t end = at + stop.size();
    if (best == nullptr || end < best_end || (end == best_end && stop.size() > best->size())) {
      best = &stop;
      best_end = end;
    }
  }
  if (best != nullptr) {
    matched_ = *best;
    std::string out = held_.substr(0, include_stop_in_output_ ? best_end : best_end - best->size());
    held_.clear();
    return out;
  }
  size_t hold = 0;  // the longest tail that a stop string starts with
  for (const std::string& stop : stops_) {
    for (size_t length = std::min(stop.size() - 1, held_.size()); length > hold; --length) {
      if (std::string_view(held_).ends_with(std::string_view(stop).substr(0, length))) {
        hold = length;
        break;
      }
    }
  }
  std::string out = held_.substr(0, held_.size() - hold);
  held_.erase(0, held_.size() - hold);
  return out;
}

std::string StopMatcher::flush() {
  return matched_ ? std::string() : std::exchange(held_, std::string());
}

}  // namespace donar::text

// Which tokens a sequence holds and how often it generated them: what the penalties need, kept up
// step by step.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace donar::engine {

class TokenCounts {
 public:
  struct Entry {
    int32_t token = 0;
    int num_output = 0;  // occurrences in the output; 0: in the prompt only
  };

  // Counts what `tokens` (prompt, then output) got since the last call.
  void catch_up(std::span<const int32_t> tokens, int64_t num_prompt) {
    for (; num_seen_ < static_cast<int64_t>(tokens.size()); ++num_seen_) {
      const int32_t token = tokens[static_cast<size_t>(num_seen_)];
      const auto [place, is_new] = index_.try_emplace(token, entries_.size());
      if (is_new) entries_.push_back({token, 0});
      if (num_seen_ >= num_prompt) ++entries_[place->second].num_output;
    }
  }
  std::span<const Entry> entries() const { return entries_; }

 private:
  std::vector<Entry> entries_;
  std::unordered_map<int32_t, size_t> index_;  // token -> entry
  int64_t num_seen_ = 0;
};

}  // namespace donar::engine

// Unigram model: the cut of a piece into vocabulary entries with the highest sum of scores
// (Viterbi).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "text/byte_trie.h"
#include "text/string_table.h"

namespace donar::text {

// Const after construction, thread-safe. The table is the caller's and outlives the model.
class UnigramModel {
 public:
  struct Options {
    int32_t unknown_id = -1;     // -1: unknown text gives nothing
    bool byte_fallback = false;  // unknown text becomes its <0xHH> tokens if all exist
  };

  // `scores` by id; hidden entries of the vocabulary never match.
  UnigramModel(const StringTable& vocabulary, std::vector<double> scores, Options options);

  void encode(std::string_view piece, std::vector<int32_t>& out) const;

 private:
  void append(std::string_view text, std::vector<int32_t>& out) const;

  const StringTable* vocabulary_;
  std::vector<double> scores_;
  Options options_;
  ByteTrie trie_;
  double unknown_score_ = 0;
  std::array<int32_t, 256> byte_ids_;
};

}  // namespace donar::text

// SentencePiece BPE by scores, the vocabulary "llama" of GGUF files: the adjacent pair whose text
// is the token with the highest score merges first, leftmost on ties; what is left over becomes
// byte tokens.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "text/string_table.h"

namespace donar::text {

// Const after construction, thread-safe. The table is the caller's and outlives the model.
class SentencePieceModel {
 public:
  // `scores` by id, `byte_ids` by byte (-1: none); hidden entries of the vocabulary never match.
  SentencePieceModel(const StringTable& vocabulary, std::vector<float> scores,
                     const std::array<int32_t, 256>& byte_ids, int32_t unknown_id);

  // `piece` is valid UTF-8 with U+2581 for spaces.
  void encode(std::string_view piece, std::vector<int32_t>& out) const;

 private:
  const StringTable* vocabulary_;
  std::vector<float> scores_;
  std::array<int32_t, 256> byte_ids_;
  int32_t unknown_id_;
  size_t longest_ = 0;  // bytes of the longest token
};

}  // namespace donar::text

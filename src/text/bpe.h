// Byte-pair encoding of one pre-token: the adjacent pair with the lowest rank merges first,
// leftmost on ties.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/flat_map.h"
#include "text/string_table.h"

namespace donar::text {

// Buffers of one encode call, reused from piece to piece.
struct BpeScratch {
  std::vector<int32_t> symbols;
  std::vector<int32_t> results;  // by position: what the pair that starts here merges to
  std::vector<uint32_t> ranks, previous, next;
  std::vector<uint64_t> heap;
  std::string spelling;
};

// Const after construction, thread-safe. The tables are the caller's and outlive the model.
class BpeModel {
 public:
  struct Options {
    bool ignore_merges = false;  // a whole pre-token in the vocabulary is one token
    bool byte_fallback = false;  // an unknown character becomes its <0xHH> tokens
    bool fuse_unknown = false;   // adjacent unknown characters become one unknown token
    int32_t unknown_id = -1;
  };

  BpeModel(const StringTable& vocabulary, Options options);

  void reserve(size_t merges) { merges_.reserve(merges); }
  void add_merge(int32_t left, int32_t right, uint32_t rank, int32_t result) {
    merges_.insert(pair_key(left, right), {rank, result});
  }
  // Pieces are raw bytes from now on; `byte_ids` are the tokens of single bytes.
  void use_raw_bytes(const std::array<int32_t, 256>& byte_ids);
  bool raw_bytes() const { return raw_bytes_; }
  // After the merges: text may be cut where a word that starts with U+2581 begins, if no merge
  // crosses that place.
  void cut_at_words();

  // `piece` is valid UTF-8 unless raw bytes are used.
  void encode(std::string_view piece, std::vector<int32_t>& out, BpeScratch& scratch) const;

 private:
  static constexpr uint32_t kNoRank = ~uint32_t{0};
  struct Merge {
    uint32_t rank = kNoRank;
    int32_t result = -1;
  };
  static uint64_t pair_key(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }
  Merge find(int32_t left, int32_t right) const {
    const Merge* merge = merges_.find(pair_key(left, right));
    return merge != nullptr ? *merge : Merge{};
  }
  void encode_word(std::string_view piece, std::vector<int32_t>& out, BpeScratch& scratch) const;
  void add_symbols(std::string_view piece, std::vector<int32_t>& symbols) const;
  void merge_short(std::vector<int32_t>& symbols, BpeScratch& scratch) const;
  void merge_long(std::vector<int32_t>& symbols, BpeScratch& scratch) const;

  const StringTable* vocabulary_;
  Options options_;
  FlatMap<Merge> merges_;
  std::array<int32_t, 256> byte_ids_;  // raw bytes, or <0xHH> tokens
  bool raw_bytes_ = false;
  bool cut_at_words_ = false;
};

}  // namespace donar::text

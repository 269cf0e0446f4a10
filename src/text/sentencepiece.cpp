// A heap over a linked list of text spans.
#include "text/sentencepiece.h"

#include <algorithm>
#include <utility>

#include "text/unicode.h"

namespace donar::text {
namespace {

constexpr uint32_t kEnd = ~uint32_t{0};

struct Symbol {
  size_t begin;
  size_t length;  // 0: merged into its left neighbour
  uint32_t previous;
  uint32_t next;
  int32_t pair;  // token of this text and the next; -1: none
};

struct Candidate {
  float score;
  uint32_t at;
  int32_t pair;
};

// The heap's top is the highest score, then the leftmost place.
bool later(const Candidate& a, const Candidate& b) {
  return a.score < b.score || (a.score == b.score && a.at > b.at);
}

}  // namespace

SentencePieceModel::SentencePieceModel(const StringTable& vocabulary, std::vector<float> scores,
                                       const std::array<int32_t, 256>& byte_ids, int32_t unknown_id)
    : vocabulary_(&vocabulary),
      scores_(std::move(scores)),
      byte_ids_(byte_ids),
      unknown_id_(unknown_id) {
  for (int32_t id = 0; id < vocabulary.id_limit(); ++id) {
    longest_ = std::max(longest_, vocabulary.at(id).size());
  }
}

void SentencePieceModel::encode(std::string_view piece, std::vector<int32_t>& out) const {
  std::vector<Symbol> symbols;
  for (size_t at = 0; at < piece.size();) {
    const size_t length = character_at(piece.data() + at).length;
    const auto index = static_cast<uint32_t>(symbols.size());
    symbols.push_back({at, length, index - 1, index + 1, -1});  // index - 1 of the first: kEnd
    at += length;
  }
  if (symbols.empty()) return;
  symbols.back().next = kEnd;

  std::vector<Candidate> heap;
  const auto look_up = [&](uint32_t at) {
    Symbol& symbol = symbols[at];
    symbol.pair = -1;
    if (symbol.next == kEnd) return false;
    const size_t length = symbol.length + symbols[symbol.next].length;
    if (length > longest_) return false;
    symbol.pair = vocabulary_->find(piece.substr(symbol.begin, length));
    if (symbol.pair < 0) return false;
    heap.push_back({scores_[static_cast<size_t>(symbol.pair)], at, symbol.pair});
    return true;
  };
  for (uint32_t i = 0; i < symbols.size(); ++i) look_up(i);
  std::make_heap(heap.begin(), heap.end(), later);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Candidate best = heap.back();
    heap.pop_back();
    Symbol& left = symbols[best.at];
    if (left.length == 0 || left.pair != best.pair) continue;  // stale
    Symbol& right = symbols[left.next];
    left.length += right.length;
    left.next = right.next;
    right.length = 0;
    right.pair = -1;
    if (left.next != kEnd) symbols[left.next].previous = best.at;
    if (look_up(best.at)) std::push_heap(heap.begin(), heap.end(), later);
    if (left.previous != kEnd && look_up(left.previous)) {
      std::push_heap(heap.begin(), heap.end(), later);
    }
  }
  for (uint32_t i = 0; i != kEnd; i = symbols[i].next) {
    const std::string_view text = piece.substr(symbols[i].begin, symbols[i].length);
    if (const int32_t id = vocabulary_->find(text); id >= 0) {
      out.push_back(id);
      continue;
    }
    const bool has_bytes = std::all_of(text.begin(), text.end(), [&](char byte) {
      return byte_ids_[static_cast<uint8_t>(byte)] >= 0;
    });
    if (has_bytes) {
      for (const char byte : text) out.push_back(byte_ids_[static_cast<uint8_t>(byte)]);
    } else if (unknown_id_ >= 0) {
      out.push_back(unknown_id_);
    }
  }
}

}  // namespace donar::text

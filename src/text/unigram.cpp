// Viterbi over byte positions; unknown neighbours are one stretch of text.
#include "text/unigram.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "text/unicode.h"

namespace donar::text {
namespace {

constexpr double kUnknownPenalty = 10.0;
constexpr size_t kNoStart = ~size_t{0};

struct Best {  // the best cut that ends here
  double score = 0;
  size_t start = kNoStart;
  int32_t id = -1;
};

}  // namespace

UnigramModel::UnigramModel(const StringTable& vocabulary, std::vector<double> scores,
                           Options options)
    : vocabulary_(&vocabulary), scores_(std::move(scores)), options_(options) {
  double lowest = 0;
  for (size_t i = 0; i < scores_.size(); ++i)
    lowest = i == 0 ? scores_[0] : std::min(lowest, scores_[i]);
  unknown_score_ = lowest - kUnknownPenalty;
  for (int32_t id = 0; id < vocabulary.id_limit(); ++id) {
    const std::string_view piece = vocabulary.at(id);
    if (vocabulary.find(piece) == id) trie_.add(piece, id);
  }
  for (int byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] =
        options_.byte_fallback ? vocabulary.find(fmt::format("<0x{:02X}>", byte)) : -1;
  }
}

void UnigramModel::encode(std::string_view piece, std::vector<int32_t>& out) const {
  if (piece.empty()) return;
  std::vector<Best> best(piece.size() + 1);
  const auto offer = [&](size_t start, size_t end, int32_t id, double score) {
    Best& target = best[end];
    const double total = best[start].score + score;
    if (target.start == kNoStart || total > target.score) target = {total, start, id};
  };
  for (size_t at = 0; at < piece.size();) {
    const size_t length = character_at(piece.data() + at).length;
    bool single = false;
    ByteTrie::Node node = ByteTrie::kRoot;
    for (size_t end = at; end < piece.size() && trie_.step(node, piece[end]);) {
      ++end;
      const int32_t id = trie_.value(node);
      if (id < 0) continue;
      offer(at, end, id, scores_[static_cast<size_t>(id)]);
      single |= end - at == length;
    }
    if (!single) offer(at, at + length, options_.unknown_id, unknown_score_);
    at += length;
  }
  std::vector<std::pair<size_t, size_t>> cuts;  // from the end
  bool last_unknown = false;
  for (size_t end = piece.size(); end > 0; end = best[end].start) {
    const bool unknown = best[end].id == options_.unknown_id;
    if (unknown && last_unknown) {
      cuts.back().first = best[end].start;
    } else {
      cuts.emplace_back(best[end].start, end);
    }
    last_unknown = unknown;
  }
  for (auto cut = cuts.rbegin(); cut != cuts.rend(); ++cut) {
    append(piece.substr(cut->first, cut->second - cut->first), out);
  }
}

void UnigramModel::append(std::string_view text, std::vector<int32_t>& out) const {
  if (const int32_t id = vocabulary_->find(text); id >= 0) {
    out.push_back(id);
    return;
  }
  const bool has_bytes = std::all_of(text.begin(), text.end(), [&](char byte) {
    return byte_ids_[static_cast<uint8_t>(byte)] >= 0;
  });
  if (has_bytes) {
    for (const char byte : text) out.push_back(byte_ids_[static_cast<uint8_t>(byte)]);
  } else if (options_.unknown_id >= 0) {
    out.push_back(options_.unknown_id);
  }
}

}  // namespace donar::text

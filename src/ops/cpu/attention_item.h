// Which rows an item of attention has and which keys they see, and the order in which a thread will
// read those keys and values.
#pragma once

#include "kv/kv_store.h"
#include "ops/cpu/kernels.h"

namespace donar::ops::cpu {

// Everything here is a template over V, also what does not need it: an inline function shared by
// the files of several instruction sets would be linked from any one of them.

// Rows of the item: for each kv head, for each query, its query heads.
struct ItemRow {
  int kv_head, query, head;
};

template <class V>
ItemRow item_row(const AttentionItem& item, int row) {
  const int rows = item.queries * item.heads;
  return {row / rows, row % rows / item.heads, row % item.heads};
}

template <class V>
int item_rows(const AttentionItem& item) {
  return item.kv_heads * item.queries * item.heads;
}

// The keys [first, end) that a query, or all rows of the item together, see.
struct KeyRange {
  int first, end;
};

template <class V>
KeyRange query_keys(const AttentionItem& item, int query) {
  const int end = item.positions[query] + 1;
  return {item.window > 0 && end > item.window ? end - item.window : 0, end};
}

template <class V>
KeyRange item_keys(const AttentionItem& item) {
  KeyRange all = query_keys<V>(item, 0);
  for (int i = 1; i < item.queries; ++i) {
    const KeyRange keys = query_keys<V>(item, i);
    all.first = keys.first < all.first ? keys.first : all.first;
    all.end = keys.end > all.end ? keys.end : all.end;
  }
  return all;
}

// What a range leaves of a split, counted from the split's begin.
template <class V>
KeyRange within(KeyRange keys, int split) {
  const int base = split * kAttentionSplit;
  const int first = keys.first - base > 0 ? keys.first - base : 0;
  const int end = keys.end - base < kAttentionSplit ? keys.end - base : kAttentionSplit;
  return {first, end > first ? end : first};
}

// Asks for the line at p, to be used some thousand cycles later: into the second cache, whose
// misses in flight are more than the first one's.
template <class V>
void prefetch(const std::byte* p) {
  __builtin_prefetch(p, 0, 2);
}

// Asks for the keys and values of a split, then for the first keys of the next one, a few lines
// now and then: memory is kept busy while a kernel computes, which otherwise takes turns with it.
// A split is read in passes, keys then values, of `heads` kv heads at a time. A kv head's part of a
// block must be a multiple of 256 bytes.
template <class V, int kBytes>  // of an element
class KeyStream {
 public:
  KeyStream(const AttentionItem& item, int split, int heads, const AttentionAhead& ahead)
      : next_(ahead.item), next_split_(ahead.split), heads_(heads) {
    enter(item, split);
    // The keys of the first pass are on their way.
    if (ahead.announced) is_value_ = true;
    begin_pass();
  }

  // For four lines. Several blocks have their turns: memory gives more to streams side by side.
  [[gnu::always_inline]] void ask() {
    const std::byte* at = at_[turn_];
    for (int i = 0; i < kLines; ++i) prefetch<V>(at + i * kLine);
    at_[turn_] = at + kLines * kLine;
    if (++turn_ == kStreams) {
      turn_ = 0;
      if (at_[0] == end_) advance();
    }
  }
  [[gnu::always_inline]] void ask(int times) {
    for (int i = 0; i < times; ++i) ask();
  }

 private:
  static constexpr int kLine = 64;
  static constexpr int kLines = 4;
  static constexpr int kStreams = 8;  // blocks that are asked for side by side

  void enter(const AttentionItem& item, int split) {
    item_ = &item;
    const KeyRange keys = within<V>(item_keys<V>(item), split);
    table_ = item.block_table + split * (kAttentionSplit / kv::kBlockTokens);
    first_block_ = keys.first / kv::kBlockTokens;
    end_block_ = (keys.end + kv::kBlockTokens - 1) / kv::kBlockTokens;
    first_head_ = 0;
    is_value_ = false;
  }

  void begin_pass() {
    block_ = first_block_;
    begin_blocks();
  }

  void begin_blocks() {
    const int64_t head = int64_t{kv::kBlockTokens} * item_->head_dim * kBytes;
    const int heads =
        heads_ < item_->kv_heads - first_head_ ? heads_ : item_->kv_heads - first_head_;
    for (int i = 0; i < kStreams; ++i) {
      const int block = block_ + i < end_block_ ? block_ + i : end_block_ - 1;
      at_[i] = static_cast<const std::byte*>(item_->cache) +
               (int64_t{table_[block]} * item_->block_elements +
                (is_value_ ? item_->v_offset : item_->k_offset)) *
                   kBytes +
               first_head_ * head;
    }
    end_ = at_[0] + heads * head;
  }

  // To the next blocks, pass, heads or split; stays on the last lines at the end.
  [[gnu::noinline]] void advance() {
    if (block_ + kStreams < end_block_) {
      block_ += kStreams;
      begin_blocks();
      return;
    }
    if (in_next_) {  // its first keys are enough
      stay();
      return;
    }
    if (!is_value_) {
      is_value_ = true;
    } else if (first_head_ + heads_ < item_->kv_heads) {
      first_head_ += heads_;
      is_value_ = false;
    } else if (next_ != nullptr) {
      in_next_ = true;
      enter(*next_, next_split_);
    } else {
      stay();
      return;
    }
    begin_pass();
  }
  void stay() {
    for (const std::byte*& at : at_) at -= kLines * kLine;
  }

  const AttentionItem* item_ = nullptr;
  const AttentionItem* next_;
  int next_split_;
  bool in_next_ = false;
  int heads_;

  const int32_t* table_ = nullptr;
  int first_block_ = 0, end_block_ = 0;
  int first_head_ = 0;
  bool is_value_ = false;
  int block_ = 0;
  const std::byte* at_[kStreams] = {};
  const std::byte* end_ = nullptr;  // of the first of them
  int turn_ = 0;
};

}  // namespace donar::ops::cpu

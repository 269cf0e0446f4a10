// From rows as stored to the packed layout: undoes GGUF's row order, casts plain floats, and
// repacks over the thread pool.
#pragma once

#include <span>

#include "model/load_plan.h"
#include "tensor/exec.h"

namespace donar::model {

class Packer {
 public:
  // Scratch for the widest item of `plan`, from the ledger's staging.
  static Result<Packer> create(Exec& ex, MemoryLedger& ledger, const LoadPlan& plan,
                               uint64_t scratch_limit);

  // Rows [row_begin, row_begin + rows) of `item`, `stored` as in the file; row_begin is a multiple
  // of item.unit_rows(), and so is `rows` unless the item ends there. `weights` is the weight
  // buffer.
  void pack(const LoadItem& item, int64_t row_begin, int64_t rows, const std::byte* stored,
            std::byte* weights) const;

  // Made-up values of the whole item, the same for the same item whatever the number of threads.
  void pack_dummy(const LoadItem& item, uint64_t seed, std::byte* weights) const;

 private:
  struct Scratch;
  Packer(Exec& ex, quant::Layout layout) : ex_(ex), layout_(layout) {}
  template <class Fill>
  void pack_groups(const LoadItem& item, int64_t row_begin, int64_t rows, std::byte* weights,
                   const Fill& fill) const;

  Exec& ex_;
  quant::Layout layout_;
  Buffer buffer_;  // num_slots_ x slot_bytes_
  int64_t num_slots_ = 1;
  uint64_t slot_bytes_ = 0;
};

}  // namespace donar::model

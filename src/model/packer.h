// From rows as stored to the packed layout: undoes GGUF's row order, casts plain floats, and
// repacks over the thread pool.
#pragma once

#include <span>

#include "model/load_plan.h"
#include "tensor/exec.h"

namespace donar::model {

// A vector as stored, or made up, as floats in the order of the packed one: `out` is its begin.
void pack_vector(const LoadItem& item, const std::byte* stored, float* out);
void pack_dummy_vector(const LoadItem& item, uint64_t seed, float* out);

// The seed of an item's made-up values: the same on every device.
constexpr uint64_t dummy_seed(size_t item) { return (item + 1) * 0x632be59bd9b4e019u; }

// Packs on the host, into the layouts of the CPU.
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

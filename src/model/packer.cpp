// Groups of 16 rows are claimed by the pool's threads; each thread assembles its group in a slot of
// scratch, unless the rows can be repacked straight from staging.
#include "model/packer.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "ops/linear.h"
#include "ops/random_value.h"

namespace donar::model {
namespace {

constexpr int64_t kGroupRows = 16;
constexpr int64_t kDirectRows = 64;  // rows per call where no assembling is needed

uint64_t align(uint64_t bytes) { return (bytes + 63) & ~uint64_t{63}; }

bool aligned_for(quant::Format format, const std::byte* data) {
  const uintptr_t step = format == quant::Format::kF32 ? 4 : 2;
  return reinterpret_cast<uintptr_t>(data) % step == 0;
}

void fill_random(uint64_t seed, int64_t row, const LoadItem& item, float* values) {
  const float scale = ops::random_scale(item.dummy_spread);
  for (int64_t i = 0; i < item.k; ++i)
    values[i] = item.dummy_mean + ops::random_value(seed, row, i, scale);
}

}  // namespace

Result<Packer> Packer::create(Exec& ex, MemoryLedger& ledger, const LoadPlan& plan,
                              uint64_t scratch_limit) {
  Packer packer(ex, plan.layout);
  for (const LoadItem& item : plan.items) {
    const auto row_bytes = static_cast<uint64_t>(quant::row_bytes(item.packed, item.k));
    const uint64_t floats = align(static_cast<uint64_t>(item.k) * sizeof(float));
    packer.slot_bytes_ =
        std::max(packer.slot_bytes_, floats + (item.is_vector ? 0 : align(kGroupRows * row_bytes)));
  }
  const uint64_t slots = scratch_limit / std::max<uint64_t>(packer.slot_bytes_, 1);
  if (slots == 0)
    return fail(ErrorCode::kUnsupported,
                "rows of this model are too long to be packed: 16 of them take {}, at most {} are "
                "planned for",
                format_bytes(packer.slot_bytes_), format_bytes(scratch_limit));
  packer.num_slots_ = static_cast<int64_t>(
      std::min<uint64_t>(slots, static_cast<uint64_t>(ex.pool->num_threads())));
  Result<Buffer> buffer = Buffer::allocate(
      ledger, MemoryUse::kStaging, packer.slot_bytes_ * static_cast<uint64_t>(packer.num_slots_));
  if (!buffer) return forward_error(buffer);
  packer.buffer_ = std::move(*buffer);
  return packer;
}

// fill(row, floats, out) writes one row in packed format to `out`; `floats` is room for the row's
// values.
template <class Fill>
void Packer::pack_groups(const LoadItem& item, int64_t row_begin, int64_t rows, std::byte* weights,
                         const Fill& fill) const {
  const int64_t row_bytes = quant::row_bytes(item.packed, item.k);
  const int64_t num_groups = (rows + kGroupRows - 1) / kGroupRows;
  std::atomic<int64_t> next_group{0};
  const auto work = [&](int64_t slot) {
    auto* floats =
        reinterpret_cast<float*>(buffer_.data() + static_cast<uint64_t>(slot) * slot_bytes_);
    std::byte* assembled =
        reinterpret_cast<std::byte*>(floats) + align(static_cast<uint64_t>(item.k) * sizeof(float));
    for (int64_t group = next_group++; group < num_groups; group = next_group++) {
      const int64_t first = row_begin + group * kGroupRows;
      const int64_t count = std::min(kGroupRows, row_begin + rows - first);
      for (int64_t i = 0; i < count; ++i) fill(first + i, floats, assembled + i * row_bytes);
      ops::repack_rows(item.packed, layout_, item.n, item.k, first, count, assembled,
                       weights + item.place);
    }
  };
  ex_.pool->parallel_for(num_slots_, /*chunk=*/1, [&](int64_t begin, int64_t end) {
    for (int64_t slot = begin; slot < end; ++slot) work(slot);
  });
}

void Packer::pack(const LoadItem& item, int64_t row_begin, int64_t rows, const std::byte* stored,
                  std::byte* weights) const {
  if (item.is_vector) {
    pack_vector(item, stored, reinterpret_cast<float*>(weights + item.place));
    return;
  }
  const int64_t stored_bytes = item.stored_row_bytes();
  if (item.permuted_heads == 0 && item.stored == item.packed && aligned_for(item.stored, stored)) {
    const int64_t num_calls = (rows + kDirectRows - 1) / kDirectRows;
    ex_.pool->parallel_for(num_calls, /*chunk=*/1, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * kDirectRows;
      const int64_t count = std::min(rows, end * kDirectRows) - first;
      ops::repack_rows(item.packed, layout_, item.n, item.k, row_begin + first, count,
                       stored + first * stored_bytes, weights + item.place);
    });
    return;
  }
  pack_groups(item, row_begin, rows, weights, [&](int64_t row, float* floats, std::byte* out) {
    const int64_t source =
        item.permuted_heads > 0 ? permuted_row(row, item.n / item.permuted_heads) : row;
    const std::byte* from = stored + (source - row_begin) * stored_bytes;
    if (item.stored == item.packed) {
      std::memcpy(out, from, static_cast<size_t>(stored_bytes));
    } else {
      quant::unpack_row(item.stored, from, item.k, floats);
      quant::pack_row(item.packed, floats, item.k, out);
    }
  });
}

void Packer::pack_dummy(const LoadItem& item, uint64_t seed, std::byte* weights) const {
  if (item.is_vector) {
    pack_dummy_vector(item, seed, reinterpret_cast<float*>(weights + item.place));
    return;
  }
  pack_groups(item, 0, item.n, weights, [&](int64_t row, float* floats, std::byte* out) {
    fill_random(seed, row, item, floats);
    quant::pack_row(item.packed, floats, item.k, out);
  });
}

void pack_vector(const LoadItem& item, const std::byte* stored, float* out) {
  std::vector<float> values(static_cast<size_t>(item.k));
  quant::unpack_row(item.stored, stored, item.k, values.data());
  for (int64_t i = 0; i < item.k; ++i)
    out[item.packed_row_of_stored(i)] = values[static_cast<size_t>(i)];
}

void pack_dummy_vector(const LoadItem& item, uint64_t seed, float* out) {
  std::vector<float> values(static_cast<size_t>(item.k));
  fill_random(seed, 0, item, values.data());
  for (int64_t i = 0; i < item.k; ++i) out[item.packed_row(i)] = values[static_cast<size_t>(i)];
}

}  // namespace donar::model

// See read_plan.h.
#include "model/read_plan.h"

#include <algorithm>

namespace donar::model {
namespace {

constexpr uint64_t kMaxGap = uint64_t{1}
                             << 20;  // reading so much for nothing is cheaper than another read

}  // namespace

Result<ReadPlan> plan_reads(const ModelFiles& files, const LoadPlan& plan,
                            const ReadLimits& limits) {
  const auto unit_rows = [&](const LoadItem& item) {
    return limits.whole_units ? item.unit_rows() : 1;
  };
  ReadPlan reads;
  reads.max_extent_bytes = limits.extent_bytes;
  for (const LoadItem& item : plan.items) {
    const int64_t unit = unit_rows(item);
    const auto unit_bytes = static_cast<uint64_t>(std::min(item.n, unit)) *
                            static_cast<uint64_t>(item.stored_row_bytes());
    reads.max_extent_bytes = std::max(reads.max_extent_bytes, unit_bytes);
    if (unit_bytes > limits.max_extent_bytes)
      return fail(ErrorCode::kUnsupported,
                  "{}: tensor {}: rows are too long to be streamed: {} of them take {}, at most {} "
                  "are planned for",
                  files.checkpoint.files[static_cast<size_t>(item.entry->file)].path().string(),
                  item.entry->name, unit, format_bytes(unit_bytes),
                  format_bytes(limits.max_extent_bytes));
  }
  for (const LoadItem& item : plan.items) {
    const int64_t row_bytes = item.stored_row_bytes(), unit = unit_rows(item);
    const int64_t rows_per_piece =
        std::max(unit, static_cast<int64_t>(reads.max_extent_bytes) / row_bytes / unit * unit);
    for (int64_t row = 0; row < item.n; row += rows_per_piece) {
      const int64_t rows = std::min(rows_per_piece, item.n - row);
      const uint64_t begin = item.entry->offset + static_cast<uint64_t>(row * row_bytes);
      const uint64_t end = begin + static_cast<uint64_t>(rows * row_bytes);
      Extent* last = reads.extents.empty() ? nullptr : &reads.extents.back();
      if (last && last->file == item.entry->file && begin >= last->end &&
          begin - last->end <= kMaxGap && end - last->begin <= reads.max_extent_bytes)
        last->end = end;
      else
        reads.extents.push_back({item.entry->file, begin, end});
      reads.pieces.push_back(
          {&item, row, rows, reads.extents.size() - 1, begin - reads.extents.back().begin});
    }
  }
  return reads;
}

}  // namespace donar::model

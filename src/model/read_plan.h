// The reads of a load: its tensors cut into extents that fit a staging slot, in the order of the
// file.
#pragma once

#include <vector>

#include "model/extent_reader.h"
#include "model/load_plan.h"

namespace donar::model {

// Rows of one item within an extent.
struct Piece {
  const LoadItem* item = nullptr;
  int64_t row_begin = 0;
  int64_t rows = 0;
  size_t extent = 0;
  uint64_t offset = 0;  // in the extent

  uint64_t bytes() const { return static_cast<uint64_t>(rows * item->stored_row_bytes()); }
};

struct ReadPlan {
  std::vector<Extent> extents;
  std::vector<Piece> pieces;  // in the order of the extents
  uint64_t max_extent_bytes = 0;
};

struct ReadLimits {
  uint64_t extent_bytes = 0;      // of an extent, unless rows that belong together are longer
  uint64_t max_extent_bytes = 0;  // and then no more than this
  bool whole_units = true;        // pieces hold whole units of LoadItem::unit_rows; else any rows
};

// `plan` outlives the result. kUnsupported: rows of a tensor are too long.
Result<ReadPlan> plan_reads(const ModelFiles& files, const LoadPlan& plan,
                            const ReadLimits& limits);

}  // namespace donar::model

// What a load will do, worked out before any weight is read: every tensor that the model needs,
// where it lies in the file, its packed format and its place in the one buffer that holds all
// weights.
#pragma once

#include <vector>

#include "model/model.h"
#include "ops/cuda/common/tiled.h"

namespace donar::model {

// HF row (head, s * d/2 + i) lies at row (head, 2 i + s) of a permuted matrix.
constexpr int64_t permuted_row(int64_t row, int64_t head_rows) {
  const int64_t head = row / head_rows, within = row % head_rows, half = head_rows / 2;
  return head * head_rows + 2 * (within % half) + within / half;
}
constexpr int64_t unpermuted_row(int64_t row, int64_t head_rows) {
  const int64_t head = row / head_rows, within = row % head_rows, half = head_rows / 2;
  return head * head_rows + within % 2 * half + within / 2;
}

// One matrix or vector on its way from the checkpoint into the weight buffer.
struct LoadItem {
  const TensorEntry* entry = nullptr;  // nullptr: dummy weights, made up instead of read
  bool is_vector = false;              // norms and biases become f32
  quant::Format stored = quant::Format::kF32;
  quant::Format packed = quant::Format::kF32;
  int64_t n = 0;  // rows; of a vector: 1
  int64_t k = 0;  // values in a row; of a vector: all of them
  int permuted_heads =
      0;  // > 0: rows (a vector: values) of that many heads are in interleaved order in the file
  uint64_t place = 0;       // byte offset in the weight buffer of the packed matrix (vector) that
                            // these rows (values) are a part of
  float dummy_mean = 0.0f;  // what made-up values look like: mean and standard deviation
  float dummy_spread = 0.0f;

  // Which part of the packed matrix or vector: on CUDA those of one group are one.
  int64_t first_row = 0;  // in the packed matrix; q/k/v lie one after the other
  int gate_or_up = -1;    // 0 and 1: these two alternate in runs of 8 rows (ops::interleaved_row)
  int tile_rows = 0;      // kTiled: of the packed matrix

  // Packed row (of a vector: value) of row `row` in the order of the model, or of the file.
  constexpr int64_t packed_row(int64_t row) const {
    return gate_or_up >= 0 ? ops::interleaved_row(row, gate_or_up) : first_row + row;
  }
  constexpr int64_t packed_row_of_stored(int64_t row) const {
    return packed_row(permuted_heads > 0 ? unpermuted_row(row, head_rows()) : row);
  }

  // Rows that must be in memory together to be packed on the CPU: 16 for the packed layout, whole
  // heads if rows move within them.
  int64_t unit_rows() const;
  constexpr int64_t head_rows() const { return (is_vector ? k : n) / permuted_heads; }
  int64_t stored_row_bytes() const { return quant::row_bytes(stored, k); }
};

struct LoadPlan {
  Weights weights;  // every view points into the weight buffer; null pointers in a plan without a
                    // buffer
  std::vector<LoadItem> items;  // in the order of the file
  uint64_t packed_bytes = 0;    // size of the weight buffer: the matrices, then all vectors
  uint64_t matrix_bytes = 0;
  uint64_t stored_bytes = 0;  // what will be read
  quant::Layout layout = quant::Layout::kRowMajor;
};

// For the device of `ex`; on CUDA matrices become ex.activation. `buffer`: packed_bytes long, or
// nullptr to learn that size first: the plan is the same either way.
Result<LoadPlan> plan_load(const ModelFiles& files, const LoadOptions& options, const Exec& ex,
                           std::byte* buffer);

// Tensors of the checkpoint that a plan does not read hint at a family whose math is not the
// decoder's.
void warn_of_unused_tensors(const ModelFiles& files, const LoadPlan& plan);

}  // namespace donar::model

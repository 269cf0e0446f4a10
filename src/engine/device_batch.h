// A plan as the bytes that one copy brings to a CUDA device, and what must change there before it
// runs. Host data only: tested without a device.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/sample_rows.h"
#include "engine/step_plan.h"
#include "ops/attention_plan.h"
#include "ops/scatter_ints.h"

namespace donar::engine {

struct DeviceBatchLimits {
  int64_t max_rows = 0;    // tokens of one step
  int64_t max_slots = 0;   // sequences that run at once
  int64_t max_blocks = 0;  // of one sequence
  SampleRowLimits samples;
  ops::AttentionPlanLimits attention;
};

// Byte offsets of a step's arrays in its buffer, a function of the shape alone: a captured graph of
// that shape finds them again. Work items come last, so that only those in use are copied.
struct DeviceBatchLayout {
  static constexpr uint64_t kAlignment = 16;

  DeviceBatchLayout() = default;
  DeviceBatchLayout(int64_t rows, int64_t sequences, int64_t num_samples);

  uint64_t tokens = 0;       // [rows] i32
  uint64_t positions = 0;    // [rows] i32
  uint64_t slots = 0;        // [rows] i32
  uint64_t query_start = 0;  // [sequences + 1] i32
  uint64_t sample_rows = 0;  // [samples] i32
  uint64_t samples = 0;      // [samples] SampleRow
  uint64_t counts = 0;       // AttentionItemCounts
  uint64_t items = 0;        // decode items, then prefill items
};

// What one row of logits gives.
struct HeadResult {
  int32_t line = 0;             // of the plan
  bool is_draw = false;         // else: logprobs of a prompt token
  int32_t logprobs_index = -1;  // -1: none
};

struct DeviceBatch {
  int64_t rows = 0, sequences = 0, num_samples = 0;  // padding included
  DeviceBatchLayout layout;
  ops::AttentionItemCounts items;
  uint64_t bytes = 0;                            // of the buffer that are in use
  bool is_decode = false;                        // every line is one token that draws another
  std::vector<ops::ScatteredInt> table_changes;  // of the block tables [max_slots, max_blocks]
  std::vector<const Sequence*>
      counted;                   // start here with penalties: their tokens are to be counted
  std::vector<HeadResult> head;  // one per row of logits, padding left out
};

// Lines that are one token each and draw another: a step that a captured graph can be of.
bool is_decode_plan(const StepPlan& plan);

// Engine thread only.
class DeviceBatchBuilder {
 public:
  explicit DeviceBatchBuilder(DeviceBatchLimits limits);

  static uint64_t buffer_bytes(const DeviceBatchLimits& limits);

  // Fills `buffer` (buffer_bytes long). padded_rows: a decode plan (or an empty one) is filled up
  // to so many rows; 0: as it is. Valid until the next call. A block table is told once: what a
  // call returns in table_changes must reach the device.
  const DeviceBatch& build(const StepPlan& plan, int64_t padded_rows, std::byte* buffer);
  const SampleRows& samples() const { return samples_; }
  const DeviceBatchLimits& limits() const { return limits_; }

 private:
  void add_line(const PlanLine& line, int32_t index, int64_t first_row, std::byte* buffer);
  void change_table(const PlanLine& line);
  void plan_attention(const StepPlan& plan, std::byte* buffer);

  const DeviceBatchLimits limits_;
  SampleRows samples_;
  DeviceBatch batch_;
  std::vector<int32_t> sample_rows_;
  std::vector<int64_t> num_known_blocks_;  // [max_slots] entries of its table that the device has
  std::vector<int32_t> slot_of_line_;
  std::vector<ops::AttentionItem> decode_items_, prefill_items_;  // at their capacity
};

}  // namespace donar::engine

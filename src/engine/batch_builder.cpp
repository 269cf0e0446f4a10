// One line of the plan becomes consecutive rows, one query range and one row of block tables.
#include "engine/batch_builder.h"

#include <algorithm>

#include "base/check.h"
#include "engine/sequence.h"

namespace donar::engine {

Result<BatchBuilder> BatchBuilder::create(MemoryLedger& ledger, const BatchLimits& limits) {
  const int64_t count =
      4 * limits.max_rows + limits.max_sequences + 1 + limits.max_sequences * limits.max_blocks;
  Result<Buffer> buffer =
      Buffer::allocate(ledger, MemoryUse::kStaging, static_cast<uint64_t>(count) * sizeof(int32_t));
  if (!buffer) return forward_error(buffer);
  BatchBuilder builder;
  builder.limits_ = limits;
  builder.buffer_ = std::move(*buffer);
  builder.tokens_ = builder.buffer_.as<int32_t>();
  builder.positions_ = builder.tokens_ + limits.max_rows;
  builder.slots_ = builder.positions_ + limits.max_rows;
  builder.sample_rows_ = builder.slots_ + limits.max_rows;
  builder.query_start_ = builder.sample_rows_ + limits.max_rows;
  builder.block_tables_ = builder.query_start_ + limits.max_sequences + 1;
  builder.head_rows_.reserve(static_cast<size_t>(limits.max_rows));
  return builder;
}

const model::ForwardBatch& BatchBuilder::build(const StepPlan& plan) {
  const auto num_sequences = static_cast<int64_t>(plan.lines.size());
  DONAR_CHECK(plan.num_tokens <= limits_.max_rows && num_sequences <= limits_.max_sequences,
              "{} tokens of {} sequences", plan.num_tokens, num_sequences);
  head_rows_.clear();
  int64_t row = 0;
  for (int64_t i = 0; i < num_sequences; ++i) {
    add_line(plan.lines[static_cast<size_t>(i)], i, row);
    row += plan.lines[static_cast<size_t>(i)].num_tokens;
  }
  query_start_[num_sequences] = static_cast<int32_t>(row);

  batch_.tokens = TensorView(tokens_, DType::kI32, {row});
  batch_.positions = TensorView(positions_, DType::kI32, {row});
  batch_.slots = TensorView(slots_, DType::kI32, {row});
  batch_.query_start = TensorView(query_start_, DType::kI32, {num_sequences + 1});
  batch_.block_tables = TensorView(block_tables_, DType::kI32, {num_sequences, limits_.max_blocks});
  batch_.sample_rows =
      TensorView(sample_rows_, DType::kI32, {static_cast<int64_t>(head_rows_.size())});
  return batch_;
}

void BatchBuilder::add_line(const PlanLine& line, int64_t index, int64_t first_row) {
  Sequence& sequence = *line.sequence;
  const std::span<const int32_t> blocks = sequence.blocks.ids();
  DONAR_CHECK(static_cast<int64_t>(blocks.size()) <= limits_.max_blocks, "{} blocks",
              blocks.size());
  std::ranges::copy(blocks, block_tables_ + index * limits_.max_blocks);
  query_start_[index] = static_cast<int32_t>(first_row);

  const bool wants_prompt = sequence.wants_prompt_logprobs();
  for (int i = 0; i < line.num_tokens; ++i) {
    const int64_t row = first_row + i;
    const int position = line.begin + i;
    tokens_[row] = sequence.tokens[static_cast<size_t>(position)];
    positions_[row] = position;
    slots_[row] = blocks[static_cast<size_t>(position / kv::kBlockTokens)] * kv::kBlockTokens +
                  position % kv::kBlockTokens;

    const bool is_prompt_row = wants_prompt && position + 1 < sequence.num_prompt();
    const bool is_sampled = line.samples && i + 1 == line.num_tokens;
    if (!is_prompt_row && !is_sampled) continue;
    sample_rows_[head_rows_.size()] = static_cast<int32_t>(row);
    head_rows_.push_back({&sequence, is_sampled ? -1 : position + 1});
  }
}

}  // namespace donar::engine

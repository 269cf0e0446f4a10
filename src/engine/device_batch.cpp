// See device_batch.h.
#include "engine/device_batch.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "engine/sampling_rules.h"
#include "engine/sequence.h"

namespace donar::engine {
namespace {

template <class T>
T* at(std::byte* buffer, uint64_t offset) {
  return reinterpret_cast<T*>(buffer + offset);
}

}  // namespace

DeviceBatchLayout::DeviceBatchLayout(int64_t rows, int64_t sequences, int64_t num_samples) {
  uint64_t end = 0;
  const auto reserve = [&](int64_t count, uint64_t size) {
    const uint64_t begin = end;
    end += static_cast<uint64_t>(count) * size;
    end = (end + kAlignment - 1) & ~(kAlignment - 1);
    return begin;
  };
  tokens = reserve(rows, sizeof(int32_t));
  positions = reserve(rows, sizeof(int32_t));
  slots = reserve(rows, sizeof(int32_t));
  query_start = reserve(sequences + 1, sizeof(int32_t));
  sample_rows = reserve(num_samples, sizeof(int32_t));
  samples = reserve(num_samples, sizeof(ops::SampleRow));
  counts = reserve(1, sizeof(ops::AttentionItemCounts));
  items = end;
}

bool is_decode_plan(const StepPlan& plan) {
  return !plan.empty() && plan.num_tokens == static_cast<int>(plan.lines.size()) &&
         plan.num_samples == plan.num_tokens;
}

uint64_t DeviceBatchBuilder::buffer_bytes(const DeviceBatchLimits& limits) {
  const ops::AttentionItemCapacity items = ops::max_attention_items(limits.attention);
  const DeviceBatchLayout layout(limits.max_rows, limits.max_slots, limits.max_rows);
  return layout.items +
         static_cast<uint64_t>(items.decode + items.prefill) * sizeof(ops::AttentionItem);
}

DeviceBatchBuilder::DeviceBatchBuilder(DeviceBatchLimits limits)
    : limits_(std::move(limits)),
      samples_(limits_.samples),
      num_known_blocks_(static_cast<size_t>(limits_.max_slots)) {
  const ops::AttentionItemCapacity items = ops::max_attention_items(limits_.attention);
  decode_items_.resize(static_cast<size_t>(items.decode));
  prefill_items_.resize(static_cast<size_t>(items.prefill));
}

const DeviceBatch& DeviceBatchBuilder::build(const StepPlan& plan, int64_t padded_rows,
                                             std::byte* buffer) {
  const auto num_lines = static_cast<int64_t>(plan.lines.size());
  batch_.is_decode = is_decode_plan(plan);
  DONAR_CHECK(padded_rows == 0 || ((batch_.is_decode || plan.empty()) && num_lines <= padded_rows));
  batch_.rows = padded_rows > 0 ? padded_rows : plan.num_tokens;
  batch_.sequences = padded_rows > 0 ? std::min(padded_rows, limits_.max_slots) : num_lines;
  DONAR_CHECK(batch_.rows <= limits_.max_rows && num_lines <= limits_.max_slots,
              "{} tokens of {} sequences", batch_.rows, num_lines);
  batch_.table_changes.clear();
  batch_.counted.clear();
  batch_.head.clear();
  samples_.clear();
  sample_rows_.clear();
  slot_of_line_.clear();

  // Offsets up to the sample rows do not depend on how many of those there are.
  batch_.layout = DeviceBatchLayout(batch_.rows, batch_.sequences, 0);
  auto* query_start = at<int32_t>(buffer, batch_.layout.query_start);
  int64_t row = 0;
  for (int64_t i = 0; i < num_lines; ++i) {
    const PlanLine& line = plan.lines[static_cast<size_t>(i)];
    query_start[i] = static_cast<int32_t>(row);
    add_line(line, static_cast<int32_t>(i), row, buffer);
    row += line.num_tokens;
  }
  for (int64_t i = num_lines; i <= batch_.sequences; ++i)
    query_start[i] = static_cast<int32_t>(row);
  for (; row < batch_.rows; ++row) {
    at<int32_t>(buffer, batch_.layout.tokens)[row] = 0;
    at<int32_t>(buffer, batch_.layout.positions)[row] = 0;
    at<int32_t>(buffer, batch_.layout.slots)[row] = -1;
    sample_rows_.push_back(static_cast<int32_t>(row));
  }

  batch_.num_samples = static_cast<int64_t>(sample_rows_.size());
  batch_.layout = DeviceBatchLayout(batch_.rows, batch_.sequences, batch_.num_samples);
  std::ranges::copy(sample_rows_, at<int32_t>(buffer, batch_.layout.sample_rows));
  auto* samples = at<ops::SampleRow>(buffer, batch_.layout.samples);
  std::ranges::copy(samples_.rows(), samples);
  std::fill(samples + samples_.rows().size(), samples + batch_.num_samples, ops::SampleRow{});
  plan_attention(plan, buffer);
  return batch_;
}

void DeviceBatchBuilder::add_line(const PlanLine& line, int32_t index, int64_t first_row,
                                  std::byte* buffer) {
  const Sequence& sequence = *line.sequence;
  DONAR_CHECK(sequence.slot >= 0 && sequence.slot < limits_.max_slots, "slot {}", sequence.slot);
  slot_of_line_.push_back(sequence.slot);
  change_table(line);
  if (line.starts && has_penalties(sequence.sampling())) batch_.counted.push_back(&sequence);

  const std::span<const int32_t> blocks = sequence.blocks.ids();
  auto* tokens = at<int32_t>(buffer, batch_.layout.tokens) + first_row;
  auto* positions = at<int32_t>(buffer, batch_.layout.positions) + first_row;
  auto* slots = at<int32_t>(buffer, batch_.layout.slots) + first_row;
  const bool wants_prompt = sequence.wants_prompt_logprobs();
  for (int i = 0; i < line.num_tokens; ++i) {
    const int position = line.begin + i;
    tokens[i] =
        line.from_last_step ? -1 - sequence.slot : sequence.tokens[static_cast<size_t>(position)];
    positions[i] = position;
    slots[i] = blocks[static_cast<size_t>(position / kv::kBlockTokens)] * kv::kBlockTokens +
               position % kv::kBlockTokens;

    const bool is_draw = line.samples && i + 1 == line.num_tokens;
    if (!is_draw && !(wants_prompt && position + 1 < sequence.num_prompt())) continue;
    is_draw ? samples_.add_draw(line) : samples_.add_prompt_logprobs(sequence, position + 1);
    sample_rows_.push_back(static_cast<int32_t>(first_row + i));
    batch_.head.push_back({index, is_draw, samples_.rows().back().logprobs_index});
  }
}

// A table only grows while its sequence keeps its slot.
void DeviceBatchBuilder::change_table(const PlanLine& line) {
  const Sequence& sequence = *line.sequence;
  const std::span<const int32_t> blocks = sequence.blocks.ids();
  const auto num_blocks = static_cast<int64_t>(blocks.size());
  DONAR_CHECK(num_blocks <= limits_.max_blocks, "{} blocks", num_blocks);
  int64_t& num_known = num_known_blocks_[static_cast<size_t>(sequence.slot)];
  if (line.starts) num_known = 0;
  for (; num_known < num_blocks; ++num_known) {
    batch_.table_changes.push_back({int64_t{sequence.slot} * limits_.max_blocks + num_known,
                                    blocks[static_cast<size_t>(num_known)]});
  }
}

void DeviceBatchBuilder::plan_attention(const StepPlan& plan, std::byte* buffer) {
  const std::span<const int32_t> query_start(at<int32_t>(buffer, batch_.layout.query_start),
                                             plan.lines.size() + 1);
  const std::span<const int32_t> positions(at<int32_t>(buffer, batch_.layout.positions),
                                           static_cast<size_t>(batch_.rows));
  batch_.items = ops::plan_attention(limits_.attention, query_start, positions,
                                     /*allow_prefill=*/!batch_.is_decode, decode_items_.data(),
                                     prefill_items_.data());
  *at<ops::AttentionItemCounts>(buffer, batch_.layout.counts) = batch_.items;
  // Block tables lie by slot, lines do not.
  auto* items = at<ops::AttentionItem>(buffer, batch_.layout.items);
  const auto copy = [&](const std::vector<ops::AttentionItem>& from, int32_t count) {
    for (int32_t i = 0; i < count; ++i) {
      *items = from[static_cast<size_t>(i)];
      items->sequence = slot_of_line_[static_cast<size_t>(items->sequence)];
      ++items;
    }
  };
  copy(decode_items_, batch_.items.decode);
  copy(prefill_items_, batch_.items.prefill);
  batch_.bytes = static_cast<uint64_t>(reinterpret_cast<std::byte*>(items) - buffer);
}

}  // namespace donar::engine

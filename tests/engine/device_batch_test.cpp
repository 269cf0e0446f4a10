// The bytes of a step: a second reader takes them apart and must find the plan again. Block tables
// that are only told their changes stay what the sequences hold.
#include "engine/device_batch.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/engine/scheduler_harness.h"

namespace donar::engine::test {
namespace {

DeviceBatchLimits limits_for(const SchedulerConfig& config) {
  DeviceBatchLimits limits;
  limits.max_rows = config.max_num_batched_tokens;
  limits.max_slots = config.max_num_seqs;
  limits.max_blocks = kv::blocks_for(config.max_model_len);
  limits.samples.vocab_size = 100;
  limits.samples.max_slice_rows = 64;
  limits.samples.eos_tokens = config.eos_tokens;
  limits.attention.max_rows = static_cast<int>(limits.max_rows);
  limits.attention.max_sequences = static_cast<int>(limits.max_slots);
  limits.attention.max_model_len = static_cast<int>(config.max_model_len);
  limits.attention.q_heads = 8;
  limits.attention.kv_heads = 2;
  limits.attention.head_dim = 64;
  limits.attention.num_sms = 132;
  return limits;
}

// The device's side.
class Reader {
 public:
  explicit Reader(const DeviceBatchLimits& limits)
      : limits_(limits),
        builder(limits),
        buffer_(DeviceBatchBuilder::buffer_bytes(limits), std::byte{0xff}),
        tables_(static_cast<size_t>(limits.max_slots * limits.max_blocks), -1) {}

  const DeviceBatch& build(const StepPlan& plan, int64_t padded = 0) {
    std::ranges::fill(buffer_, std::byte{0xff});
    const DeviceBatch& batch = builder.build(plan, padded, buffer_.data());
    EXPECT_LE(batch.bytes, buffer_.size());
    for (const ops::ScatteredInt& change : batch.table_changes)
      tables_.at(static_cast<size_t>(change.index)) = change.value;
    return batch;
  }

  template <class T>
  std::span<const T> read(uint64_t offset, int64_t count) const {
    EXPECT_EQ(offset % DeviceBatchLayout::kAlignment, 0u);
    return {reinterpret_cast<const T*>(buffer_.data() + offset), static_cast<size_t>(count)};
  }

  void expect_plan(const StepPlan& plan, const DeviceBatch& batch) {
    const auto tokens = read<int32_t>(batch.layout.tokens, batch.rows);
    const auto positions = read<int32_t>(batch.layout.positions, batch.rows);
    const auto slots = read<int32_t>(batch.layout.slots, batch.rows);
    const auto starts = read<int32_t>(batch.layout.query_start, batch.sequences + 1);
    const auto sample_rows = read<int32_t>(batch.layout.sample_rows, batch.num_samples);
    const auto samples = read<ops::SampleRow>(batch.layout.samples, batch.num_samples);
    size_t row = 0, head = 0;
    for (size_t i = 0; i < plan.lines.size(); ++i) {
      const PlanLine& line = plan.lines[i];
      const Sequence& sequence = *line.sequence;
      EXPECT_EQ(starts[i], static_cast<int32_t>(row));
      for (int position = line.begin; position < line.end(); ++position, ++row) {
        EXPECT_EQ(tokens[row], line.from_last_step
                                   ? -1 - sequence.slot
                                   : sequence.tokens[static_cast<size_t>(position)]);
        EXPECT_EQ(positions[row], position);
        const int32_t block = table(sequence.slot)[static_cast<size_t>(position / 16)];
        EXPECT_EQ(slots[row], block * 16 + position % 16);
        const bool is_prompt =
            sequence.wants_prompt_logprobs() && position + 1 < sequence.num_prompt();
        const bool is_draw = line.samples && position + 1 == line.end();
        if (!is_prompt && !is_draw) continue;
        EXPECT_EQ(sample_rows[head], static_cast<int32_t>(row));
        EXPECT_EQ(samples[head].kind,
                  is_draw ? ops::SampleKind::kDraw : ops::SampleKind::kPromptLogprobs);
        EXPECT_EQ(batch.head[head].line, static_cast<int32_t>(i));
        EXPECT_EQ(batch.head[head].is_draw, is_draw);
        EXPECT_EQ(batch.head[head].logprobs_index, samples[head].logprobs_index);
        ++head;
      }
      EXPECT_TRUE(std::ranges::equal(sequence.blocks.ids(),
                                     table(sequence.slot).first(sequence.blocks.ids().size())));
    }
    EXPECT_EQ(head, batch.head.size());
    for (; row < static_cast<size_t>(batch.rows); ++row, ++head) {
      EXPECT_EQ(slots[row], -1);
      EXPECT_EQ(positions[row], 0);
      EXPECT_EQ(tokens[row], 0);
      EXPECT_EQ(sample_rows[head], static_cast<int32_t>(row));
      EXPECT_EQ(samples[head].kind, ops::SampleKind::kSkip);
    }
    EXPECT_EQ(head, static_cast<size_t>(batch.num_samples));
    for (size_t i = plan.lines.size(); i <= static_cast<size_t>(batch.sequences); ++i)
      EXPECT_EQ(starts[i], plan.num_tokens);
    expect_items(plan, batch);
  }

  DeviceBatchBuilder& batches() { return builder; }

 private:
  std::span<const int32_t> table(int slot) const {
    return std::span(tables_).subspan(static_cast<size_t>(slot * limits_.max_blocks),
                                      static_cast<size_t>(limits_.max_blocks));
  }

  // Every row sees every key up to its own once, in the table of its sequence.
  void expect_items(const StepPlan& plan, const DeviceBatch& batch) {
    const auto counts = read<ops::AttentionItemCounts>(batch.layout.counts, 1)[0];
    EXPECT_EQ(counts.decode, batch.items.decode);
    EXPECT_EQ(counts.prefill, batch.items.prefill);
    const auto items = read<ops::AttentionItem>(batch.layout.items, counts.decode + counts.prefill);
    EXPECT_EQ(batch.bytes, batch.layout.items + items.size_bytes());
    std::vector<int64_t> keys(static_cast<size_t>(plan.num_tokens));
    std::vector<int> slot_of_row, position_of_row;
    for (const PlanLine& line : plan.lines) {
      for (int i = 0; i < line.num_tokens; ++i) {
        slot_of_row.push_back(line.sequence->slot);
        position_of_row.push_back(line.begin + i);
      }
    }
    for (const ops::AttentionItem& item : items) {
      for (int r = 0; r < item.num_rows; ++r) {
        const auto row = static_cast<size_t>(item.row_begin + r);
        ASSERT_LT(row, keys.size());
        EXPECT_EQ(item.sequence, slot_of_row[row]);
        EXPECT_EQ(item.position + r, position_of_row[row]);
        const int64_t begin = int64_t{item.split} * item.chunk;
        keys[row] += std::max<int64_t>(
            0, std::min<int64_t>(begin + item.chunk, item.position + r + 1) - begin);
      }
    }
    for (size_t row = 0; row < keys.size(); ++row) EXPECT_EQ(keys[row], position_of_row[row] + 1);
  }

  const DeviceBatchLimits limits_;
  DeviceBatchBuilder builder;
  std::vector<std::byte> buffer_;
  std::vector<int32_t> tables_;
};

TEST(DeviceBatch, every_plan_of_a_busy_engine_is_found_again_in_its_bytes) {
  for (int depth : {0, 1}) {
    SCOPED_TRACE(depth);
    std::mt19937 random(3);
    SchedulerConfig config = SchedulerHarness::config();
    config.max_model_len = 160;
    SchedulerHarness harness(config, 20, depth);
    Reader reader(limits_for(config));
    int num_decode = 0, num_mixed = 0, num_in_flight = 0;
    harness.runner.before_step = [&](const StepPlan& plan) -> Result<void> {
      const bool is_decode = is_decode_plan(plan);
      const int64_t padded =
          is_decode && random() % 2
              ? std::min<int64_t>(config.max_num_seqs, static_cast<int64_t>(plan.lines.size()) + 3)
              : 0;
      const DeviceBatch& batch = reader.build(plan, padded);
      EXPECT_EQ(batch.is_decode, is_decode);
      reader.expect_plan(plan, batch);
      (is_decode ? num_decode : num_mixed) += 1;
      for (const PlanLine& line : plan.lines) num_in_flight += line.from_last_step;
      return {};
    };
    for (int i = 0; i < 40; ++i) {
      Request request = fake_request(
          fake_prompt(static_cast<int32_t>(random() % 4), 1 + static_cast<int>(random() % 100)),
          1 + static_cast<int>(random() % 50));
      request.sampling.num_prompt_logprobs = random() % 4 == 0 ? 1 : -1;
      request.sampling.num_logprobs = random() % 3 == 0 ? 2 : -1;
      request.sampling.temperature = random() % 2 ? 1.0f : 0.0f;
      harness.add(request);
    }
    harness.run_until_idle();
    for (size_t i = 0; i < 40; ++i) harness.expect_complete(i);
    EXPECT_GT(num_decode, 20);
    EXPECT_GT(num_mixed, 20);
    EXPECT_EQ(num_in_flight > 0, depth > 0);
  }
}

TEST(DeviceBatch, a_table_is_told_once_and_again_when_its_slot_has_a_new_sequence) {
  SchedulerConfig config = SchedulerHarness::config();
  config.max_num_seqs = 1;
  SchedulerHarness harness(config, 64);
  Reader reader(limits_for(config));
  std::vector<size_t> num_changes;
  harness.runner.before_step = [&](const StepPlan& plan) -> Result<void> {
    num_changes.push_back(reader.build(plan).table_changes.size());
    return {};
  };
  Request request = fake_request(fake_prompt(1, 31), 4);
  request.sampling.ignore_eos = true;
  harness.add(request);
  harness.run_until_idle();
  request.prompt = fake_prompt(2, 17);
  request.max_tokens = 1;
  harness.add(request);
  harness.run_until_idle();
  EXPECT_EQ(num_changes, (std::vector<size_t>{2, 0, 1, 0, 2}));
}

TEST(DeviceBatch, penalties_are_counted_from_the_start_and_after_a_preemption) {
  SchedulerConfig config = SchedulerHarness::config();
  config.prefix_caching = false;
  SchedulerHarness harness(config, 8, /*depth=*/1);
  Reader reader(limits_for(config));
  std::map<const Sequence*, int> counted;
  harness.runner.before_step = [&](const StepPlan& plan) -> Result<void> {
    for (const Sequence* sequence : reader.build(plan).counted) ++counted[sequence];
    return {};
  };
  for (int i = 0; i < 2; ++i) {
    Request request = fake_request(fake_prompt(i, 30), 60);
    request.sampling.ignore_eos = true;
    request.sampling.presence_penalty = i == 1 ? 0.5f : 0.0f;
    harness.add(request);
  }
  harness.run_until_idle();
  EXPECT_GE(harness.requests[1]->timing.num_preemptions, 1);
  ASSERT_EQ(counted.size(), 1u);
  EXPECT_EQ(counted.begin()->second, 1 + harness.requests[1]->timing.num_preemptions);
}

TEST(DeviceBatch, nothing_but_padding_is_a_step_too) {
  const SchedulerConfig config = SchedulerHarness::config();
  Reader reader(limits_for(config));
  for (const int64_t rows : {int64_t{1}, int64_t{8}, int64_t{64}}) {
    const StepPlan nothing;
    const DeviceBatch& batch = reader.build(nothing, rows);
    EXPECT_EQ(batch.rows, rows);
    EXPECT_EQ(batch.num_samples, rows);
    EXPECT_EQ(batch.items.decode + batch.items.prefill, 0);
    reader.expect_plan(nothing, batch);
  }
}

}  // namespace
}  // namespace donar::engine::test

#include <algorithm>
#include <memory>
#include <random>

#include "ops/cuda/paged_attention_layout.h"
#include "ops/paged_attention.h"
#include "tests/ops/cuda_device.h"
#include "tests/ops/op_test.h"
#include "tests/ops/reference.h"

namespace donar::ops {
namespace {

constexpr int kBlock = kv::kBlockTokens;

struct Sequence {
  int computed;  // tokens whose keys lie in the cache already
  int rows;      // tokens of this step
};

struct Heads {
  int q, kv, dim;
};

// A step of several sequences with shuffled blocks, on the host: keys up to the last row are
// stored, the rest of the cache is NaN.
struct Batch {
  Batch(std::vector<Sequence> sequences_of_step, DType type, const Heads& shape, int window = 0,
        uint32_t seed = 1, float query_deviation = 2.0f)
      : sequences(std::move(sequences_of_step)), dtype(type), heads(shape) {
    num_blocks = 3;
    for (const Sequence& s : sequences) {
      num_blocks += blocks_of(s);
      max_blocks = std::max(max_blocks, blocks_of(s));
    }
    shared_cells = std::make_shared<std::vector<uint16_t>>(
        static_cast<size_t>(num_blocks * 2 * heads.kv * kBlock * heads.dim), uint16_t{0xffff});
    std::vector<uint16_t>& cells = *shared_cells;
    layer = {cells.data(), dtype, num_blocks, heads.kv, heads.dim};
    std::vector<int32_t> ids(static_cast<size_t>(num_blocks));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
    std::mt19937 generator(seed);
    std::shuffle(ids.begin(), ids.end(), generator);
    std::normal_distribution<float> normal;
    tables.assign(sequences.size() * static_cast<size_t>(max_blocks), 0x7fffffff);
    size_t next = 0;
    for (size_t s = 0; s < sequences.size(); ++s) {
      const int total = sequences[s].computed + sequences[s].rows;
      int32_t* table = &tables[s * static_cast<size_t>(max_blocks)];
      // Blocks that no row of the step sees through the window may be gone.
      const int first = window > 0 ? std::max(sequences[s].computed - window + 1, 0) / kBlock : 0;
      for (int b = first; b < blocks_of(sequences[s]); ++b) table[b] = ids[next++];
      for (int t = first * kBlock; t < total; ++t) {
        for (int head = 0; head < heads.kv; ++head) {
          for (bool value : {false, true}) {
            const int64_t at = layer.index(table[t / kBlock], value, head, t % kBlock);
            for (int d = 0; d < heads.dim; ++d)
              cells[static_cast<size_t>(at + d)] = to_16_bits(dtype, normal(generator));
          }
        }
      }
      for (int r = 0; r < sequences[s].rows; ++r) {
        positions.push_back(sequences[s].computed + r);
        sequence_of.push_back(s);
      }
      starts.push_back(static_cast<int32_t>(positions.size()));
    }
    q = rounded_to(dtype, reference::random_floats(rows() * width(), seed + 1, query_deviation));
  }

  static int blocks_of(const Sequence& s) { return (s.computed + s.rows + kBlock - 1) / kBlock; }
  int64_t rows() const { return static_cast<int64_t>(positions.size()); }
  int64_t width() const { return int64_t{heads.q} * heads.dim; }
  AttentionParams params(int window = 0) const {
    return {.q_heads = heads.q,
            .scale = 1.0f / std::sqrt(static_cast<float>(heads.dim)),
            .window = window};
  }
  // One row of this step as a step of its own: the same cache and query.
  Batch row_alone(int64_t row) const { return rows_alone(row, 1); }
  Batch rows_alone(int64_t row, int count) const {
    Batch alone = *this;
    const size_t s = sequence_of[static_cast<size_t>(row)];
    alone.sequences = {{positions[static_cast<size_t>(row)], count}};
    alone.starts = {0, count};
    alone.positions.assign(positions.begin() + row, positions.begin() + row + count);
    alone.sequence_of.assign(static_cast<size_t>(count), 0);
    alone.tables.assign(tables.begin() + static_cast<int64_t>(s) * max_blocks,
                        tables.begin() + static_cast<int64_t>(s + 1) * max_blocks);
    alone.q.assign(q.begin() + row * width(), q.begin() + (row + count) * width());
    return alone;
  }
  // The cache as the device keeps it.
  std::vector<uint16_t> device_cells() const {
    const std::vector<uint16_t>& cells = *shared_cells;
    std::vector<uint16_t> moved(cells.size());
    const size_t matrix = static_cast<size_t>(kBlock * heads.dim);
    for (size_t at = 0; at < cells.size(); at += matrix) {
      for (int token = 0; token < kBlock; ++token) {
        for (int d = 0; d < heads.dim; ++d) {
          moved[at + static_cast<size_t>(cuda::cache_offset(token, d, heads.dim))] =
              cells[at + static_cast<size_t>(token * heads.dim + d)];
        }
      }
    }
    return moved;
  }

  std::vector<Sequence> sequences;
  DType dtype;
  Heads heads;
  int max_blocks = 1;
  int64_t num_blocks = 0;
  std::shared_ptr<std::vector<uint16_t>> shared_cells;  // as KvLayer::index says
  kv::KvLayer layer;
  std::vector<int32_t> positions, starts = {0}, tables;
  std::vector<size_t> sequence_of;
  std::vector<float> q;
};

class CudaAttention : public CudaTest {
 public:
  int limits_sms = 0;       // what the plan takes the device for; 0: what it is
  int max_decode_rows = 0;  // 0: all rows

  AttentionPlanLimits limits_of(const Batch& batch) const {
    return {.max_rows = static_cast<int>(batch.rows()) + 8,
            .max_sequences = static_cast<int>(batch.sequences.size()) + 1,
            .max_decode_rows =
                max_decode_rows > 0 ? max_decode_rows : static_cast<int>(batch.rows()) + 8,
            .max_model_len = batch.max_blocks * kBlock,
            .q_heads = batch.heads.q,
            .kv_heads = batch.heads.kv,
            .head_dim = batch.heads.dim,
            .num_sms = limits_sms > 0 ? limits_sms : device().num_sms};
  }

  // Everything of a step in device memory.
  struct Step {
    TensorView q, positions, starts, tables, cache, out, counts, workspace;
    TensorView decode, prefill;  // items as integers
    kv::KvLayer layer;
    AttentionPlan plan;
    AttentionItemCounts items;
    uint64_t counters = 0;  // integers
  };

  std::vector<int32_t> as_ints(const std::vector<AttentionItem>& items) {
    std::vector<int32_t> ints(items.size() * sizeof(AttentionItem) / sizeof(int32_t));
    std::memcpy(ints.data(), items.data(), items.size() * sizeof(AttentionItem));
    return ints;
  }

  TensorView upload_cache(const Batch& batch) {
    const std::vector<uint16_t> cells = batch.device_cells();
    return upload(batch.dtype, cells, {std::ssize(cells)});
  }

  Step upload_step(const Batch& batch) { return upload_step(batch, upload_cache(batch)); }
  Step upload_step(const Batch& batch, const TensorView& cache) {
    ex.activation = batch.dtype;
    const AttentionPlanLimits limits = limits_of(batch);
    const AttentionItemCapacity capacity = max_attention_items(limits);
    std::vector<AttentionItem> decode(static_cast<size_t>(capacity.decode));
    std::vector<AttentionItem> prefill(static_cast<size_t>(capacity.prefill));
    Step step;
    step.items = plan_attention(limits, batch.starts, batch.positions, /*allow_prefill=*/true,
                                decode.data(), prefill.data());
    const AttentionWorkspaceLayout layout = attention_workspace_layout(limits);
    step.counters = layout.sums / sizeof(int32_t);
    std::vector<int32_t> workspace(layout.bytes / sizeof(int32_t), -1);  // partial results are NaN
    std::fill_n(workspace.begin(), step.counters, 0);

    step.q = upload_as(batch.dtype, batch.q, {batch.rows(), batch.width()});
    step.positions = upload(batch.positions, {batch.rows()});
    step.starts = upload(batch.starts, {std::ssize(batch.starts)});
    step.tables = upload(batch.tables, {std::ssize(batch.sequences), batch.max_blocks});
    step.cache = cache;
    step.out = poisoned_activation(batch.rows(), batch.width());
    step.counts = upload(std::vector<int32_t>{step.items.decode, step.items.prefill}, {2});
    step.workspace = upload(workspace, {std::ssize(workspace)});
    const std::vector<int32_t> decode_ints = as_ints(decode), prefill_ints = as_ints(prefill);
    step.decode = upload(decode_ints, {std::ssize(decode_ints)});
    step.prefill = upload(prefill_ints, {std::ssize(prefill_ints)});
    step.layer = {step.cache.data, batch.dtype, batch.num_blocks, batch.heads.kv, batch.heads.dim};
    step.plan = {.decode_items = static_cast<const AttentionItem*>(step.decode.data),
                 .prefill_items = static_cast<const AttentionItem*>(step.prefill.data),
                 .counts = step.counts.as<int32_t>(),
                 .has_decode_items = step.items.decode > 0,
                 .num_prefill_items = step.items.prefill,
                 .workspace = step.workspace.data,
                 .limits = limits};
    return step;
  }

  void attend(const Step& step, AttentionParams params) {
    paged_attention(ex, step.q, step.positions, step.starts, step.tables, step.plan, step.layer,
                    params, step.out);
  }

  void expect_counters_at_zero(const Step& step) {
    const std::vector<int32_t> workspace = download_ints(step.workspace);
    EXPECT_EQ(
        std::count(workspace.begin(), workspace.begin() + static_cast<int64_t>(step.counters), 0),
        static_cast<int64_t>(step.counters));
  }

  // [rows, width]
  std::vector<float> run(const Batch& batch, AttentionParams params,
                         const std::vector<float>& sinks = {}) {
    const std::vector<float> out = run_on(upload_cache(batch), batch, params, sinks);
    free_tensors();
    return out;
  }
  std::vector<float> run_on(const TensorView& cache, const Batch& batch, AttentionParams params,
                            const std::vector<float>& sinks) {
    const Step step = upload_step(batch, cache);
    if (!sinks.empty()) params.sinks = upload(sinks, {std::ssize(sinks)}).as<float>();
    attend(step, params);
    std::vector<float> out = download_activation(step.out, batch.rows(), batch.width());
    expect_counters_at_zero(step);
    return out;
  }

  // Rows are left out where the reference would take longer than a second.
  static void expect_equals_reference(const Batch& batch, AttentionParams params,
                                      const std::vector<float>& sinks,
                                      const std::vector<float>& out, const std::string& what) {
    params.sinks = sinks.empty() ? nullptr : sinks.data();
    double work = 0;
    for (int32_t position : batch.positions)
      work += double(params.window > 0 ? std::min(position + 1, params.window) : position + 1) *
              static_cast<double>(batch.width());
    const auto stride = static_cast<int64_t>(work / 1e8) + 1;
    const double epsilon = batch.dtype == DType::kF16 ? 1.0 / 2048 : 1.0 / 256;
    const int group = batch.heads.q / batch.heads.kv;
    Worst worst;
    for (int64_t row = 0; row < batch.rows(); ++row) {
      if (row % stride != 0 && row + 1 != batch.rows()) continue;
      const auto r = static_cast<size_t>(row);
      for (int head = 0; head < batch.heads.q; ++head) {
        const std::vector<double> expected = reference::attend(
            &batch.q[static_cast<size_t>(row * batch.width() + head * batch.heads.dim)],
            batch.positions[r],
            &batch.tables[batch.sequence_of[r] * static_cast<size_t>(batch.max_blocks)],
            batch.layer, head / group, params, head);
        for (int d = 0; d < batch.heads.dim; ++d) {
          const int64_t column = int64_t{head} * batch.heads.dim + d;
          const double value = expected[static_cast<size_t>(d)];
          // Weights (at most 1, of values of a few units) and results are rounded to 16 bits.
          worst.add(row, column, out[static_cast<size_t>(row * batch.width() + column)], value,
                    epsilon * (1.5 + std::fabs(value)));
        }
      }
    }
    worst.expect_within(what);
  }

  void check(const Batch& batch, const std::string& what, int window = 0,
             const std::vector<float>& sinks = {}) {
    const AttentionParams params = batch.params(window);
    expect_equals_reference(
        batch, params, sinks, run(batch, params, sinks),
        fmt::format("{} {} heads on {} of {}, window {}, {} sinks: {}", dtype_name(batch.dtype),
                    batch.heads.q, batch.heads.kv, batch.heads.dim, window, sinks.size(), what));
  }
};

constexpr DType kTypes[] = {DType::kBF16, DType::kF16};

const std::vector<Sequence> kMixed = {{0, 1},   {5, 3},   {63, 1},   {64, 70},  {0, 33},
                                      {200, 1}, {255, 1}, {256, 1},  {300, 16}, {1000, 1},
                                      {30, 17}, {511, 2}, {1023, 5}, {0, 130}};

TEST_F(CudaAttention, equals_the_reference_for_mixed_rows_heads_and_types) {
  for (const Heads& heads :
       {Heads{8, 2, 128}, Heads{9, 3, 64}, Heads{8, 1, 64}, Heads{14, 2, 128}, Heads{4, 4, 128},
        Heads{4, 4, 16}, Heads{3, 3, 8}, Heads{2, 1, 12}, Heads{7, 1, 80}, Heads{6, 2, 96},
        Heads{8, 1, 256}, Heads{2, 1, 192}, Heads{5, 1, 34}, Heads{4, 2, 32}}) {
    for (DType dtype : kTypes) check(Batch(kMixed, dtype, heads), "mixed");
  }
}

// What devices without wgmma run.
TEST_F(CudaAttention, prefill_by_mma_equals_the_reference) {
  CudaExec exec = *ex.cuda;
  exec.arch = 87;
  ex.cuda = &exec;
  for (const Heads& heads : {Heads{8, 2, 128}, Heads{9, 3, 64}}) {
    for (DType dtype : kTypes) check(Batch(kMixed, dtype, heads), "mma");
  }
  check(Batch({{2000, 90}, {0, 300}}, DType::kBF16, {4, 2, 128}, 100), "mma", 100,
        {0.5f, -3.0f, 12.0f, 0.0f});
}

TEST_F(CudaAttention, windows_and_sinks_equal_the_reference) {
  const std::vector<float> sinks = {0.5f, -3.0f, 12.0f, 0.0f};
  for (const Heads& heads : {Heads{4, 2, 64}, Heads{4, 2, 128}, Heads{4, 1, 20}}) {
    for (int window : {1, 2, 17, 64, 100, 600}) {
      for (bool with_sinks : {false, true}) {
        Batch batch({{3000, 1},
                     {1100, 2},
                     {511, 2},
                     {512, 1},
                     {1023, 66},
                     {40, 5},
                     {2000, 12},
                     {0, 150},
                     {700, 200},
                     {0, 1}},
                    DType::kBF16, heads, window);
        check(batch, "mixed", window, with_sinks ? sinks : std::vector<float>{});
      }
    }
  }
  check(Batch(kMixed, DType::kF16, {4, 2, 64}), "mixed", 0, sinks);
}

TEST_F(CudaAttention, long_contexts_equal_the_reference) {
  for (const Heads& heads : {Heads{8, 2, 128}, Heads{2, 1, 64}, Heads{2, 2, 24}}) {
    check(Batch({{19999, 1}, {18000, 3}, {9000, 1}, {3000, 1}}, DType::kBF16, heads), "decode");
    check(Batch({{16000, 40}, {6000, 20}}, DType::kBF16, heads), "prefill");
  }
}

// Plans for other devices cut keys into fewer or more splits.
TEST_F(CudaAttention, any_number_of_splits_equals_the_reference) {
  for (int sms : {1, 6, 40, 400}) {
    limits_sms = sms;
    check(Batch({{5000, 1}, {4000, 4}, {127, 1}, {128, 2}, {3000, 100}}, DType::kBF16, {4, 2, 128}),
          fmt::format("{} SMs", sms));
    check(Batch({{5000, 1}, {4000, 16}, {2900, 30}}, DType::kBF16, {8, 1, 64}, 700),
          fmt::format("{} SMs", sms), 700);
  }
}

TEST_F(CudaAttention, more_query_heads_per_kv_head_than_a_tile_holds) {
  check(Batch({{10, 3}, {600, 1}, {0, 40}}, DType::kBF16, {71, 1, 8}), "71 heads");
  check(Batch({{10, 3}, {600, 1}, {0, 40}}, DType::kBF16, {71, 1, 64}), "71 heads");
  check(Batch({{400, 2}, {0, 20}}, DType::kF16, {150, 1, 64}), "150 heads");
}

TEST_F(CudaAttention, many_sequences_keep_every_sm_busy_more_than_once) {
  std::vector<Sequence> sequences;
  for (int i = 0; i < 150; ++i) sequences.push_back({(i * 97) % 1500, 1});
  for (int i = 0; i < 20; ++i) sequences.push_back({(i * 31) % 300, 20 + i * 13});
  check(Batch(sequences, DType::kBF16, {8, 4, 64}), "170 sequences");
}

TEST_F(CudaAttention, large_scores_do_not_overflow) {
  for (int rows : {4, 40}) {
    Batch batch({{100, rows}}, DType::kBF16, {2, 1, 128}, 0, 1, /*query_deviation=*/600.0f);
    for (float value : run(batch, batch.params())) ASSERT_TRUE(std::isfinite(value)) << rows;
  }
}

// A decode row's bits are its own: alone, among others, in whatever order, and with following rows
// of its sequence (verification), which see keys that it does not.
TEST_F(CudaAttention, a_row_does_not_depend_on_its_neighbours) {
  const std::vector<float> sinks = {0.5f, -3.0f, 2.0f, 0.0f, 1.0f, -1.0f, 0.3f, 4.0f};
  for (const Heads& heads : {Heads{8, 2, 128}, Heads{4, 4, 64}, Heads{8, 1, 12}}) {
    limits_sms = 16 * heads.kv;  // 16 splits: the chunk grows every 2,048 or 4,096 keys
    for (int window : {0, 300}) {
      for (bool with_sinks : {false, true}) {
        std::vector<float> used;
        if (with_sinks) used.assign(sinks.begin(), sinks.begin() + heads.q);
        // Around where splits begin (256, 512, ...) and where the chunk changes.
        Batch batch({{700, 1}, {250, 16}, {4090, 12}, {2040, 16}, {0, 5}, {1300, 9}, {508, 8}},
                    DType::kBF16, heads, window);
        const AttentionParams params = batch.params(window);
        const TensorView cache = upload_cache(batch);
        const std::vector<float> together = run_on(cache, batch, params, used);
        const std::vector<float> again = run_on(cache, batch, params, used);
        EXPECT_TRUE(same_bits(again.data(), together.data(), std::ssize(together)));
        for (int64_t row = 0; row < batch.rows(); ++row) {
          const std::vector<float> alone = run_on(cache, batch.row_alone(row), params, used);
          ASSERT_TRUE(same_bits(alone.data(), &together[static_cast<size_t>(row * batch.width())],
                                batch.width()))
              << "heads of " << heads.dim << ", window " << window << ", row " << row
              << " at position " << batch.positions[static_cast<size_t>(row)];
        }
        const std::vector<float> three = run_on(cache, batch.rows_alone(3, 3), params, used);
        EXPECT_TRUE(same_bits(three.data(), &together[static_cast<size_t>(3 * batch.width())],
                              3 * batch.width()));
        free_tensors();
      }
    }
  }
}

// Splits of more blocks than the ring of keys has stages: no warp may take a stage of an earlier
// round for the one that it waits for, in whatever order copies arrive.
TEST_F(CudaAttention, splits_longer_than_the_ring_give_the_same_bits_every_time) {
  limits_sms = 8;
  for (const Heads& heads : {Heads{8, 2, 128}, Heads{4, 4, 64}, Heads{4, 2, 256}}) {
    const Batch batch({{20000, 1}, {9000, 4}, {15000, 1}}, DType::kBF16, heads);
    const AttentionParams params = batch.params();
    const TensorView cache = upload_cache(batch);
    const std::vector<float> first = run_on(cache, batch, params, {});
    expect_equals_reference(batch, params, {}, first, "splits longer than the ring");
    for (int round = 0; round < 40; ++round) {
      const std::vector<float> again = run_on(cache, batch, params, {});
      ASSERT_TRUE(same_bits(again.data(), first.data(), std::ssize(first))) << "round " << round;
    }
    free_tensors();
  }
}

// A captured step replays with other sequences, lengths and fewer items; rows of the padding belong
// to no item and stay as they are.
TEST_F(CudaAttention, a_captured_step_replays_with_other_sequences) {
  const Heads heads = {8, 2, 128};
  max_decode_rows = 6;
  const Batch first({{3000, 1}, {10, 1}, {700, 1}, {255, 1}, {1500, 1}, {80, 1}}, DType::kBF16,
                    heads);
  const Batch second({{400, 1}, {2900, 1}, {0, 1}}, DType::kBF16, heads, 0, /*seed=*/9);
  Step step = upload_step(first);
  const AttentionParams params = first.params();
  int replays = 0;
  const auto copy = [&](const TensorView& to, const TensorView& from) {
    cuda_copy(to.data, from.data, static_cast<uint64_t>(from.numel()) * dtype_size(from.dtype),
              ex.cuda->stream);
  };
  replay([&] { attend(step, params); }, 3);
  expect_equals_reference(first, params, {},
                          download_activation(step.out, first.rows(), first.width()), "captured");
  // The same addresses with the second step's data; three rows of padding.
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t instance = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(ex.cuda->stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  attend(step, params);
  ASSERT_EQ(cudaStreamEndCapture(ex.cuda->stream, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&instance, graph, 0), cudaSuccess);
  const Step other = upload_step(second);
  ASSERT_LE(other.cache.numel(), step.cache.numel());
  ASSERT_EQ(other.items.prefill, 0);
  std::vector<int32_t> tables(static_cast<size_t>(step.tables.numel()), 0x7fffffff);
  for (size_t s = 0; s < second.sequences.size(); ++s) {
    std::copy_n(&second.tables[s * static_cast<size_t>(second.max_blocks)], second.max_blocks,
                &tables[s * static_cast<size_t>(first.max_blocks)]);
  }
  copy(step.q, other.q);
  copy(step.cache, other.cache);
  copy(step.tables, upload(tables, {std::ssize(tables)}));
  copy(step.decode, TensorView(other.decode.data, DType::kI32, {other.items.decode * 8}));
  copy(step.counts, other.counts);
  const TensorView poison = poisoned_activation(first.rows(), first.width());
  copy(step.out, poison);
  for (; replays < 2; ++replays) ASSERT_EQ(cudaGraphLaunch(instance, ex.cuda->stream), cudaSuccess);
  const std::vector<float> out = download_activation(step.out, first.rows(), first.width());
  expect_equals_reference(second, params, {}, out, "replayed with other data");
  for (int64_t i = second.rows() * second.width(); i < std::ssize(out); ++i)
    ASSERT_TRUE(std::isnan(out[static_cast<size_t>(i)])) << "a row of the padding was written";
  expect_counters_at_zero(step);
  // No items at all.
  copy(step.counts, upload(std::vector<int32_t>{0, 0}, {2}));
  copy(step.out, poison);
  ASSERT_EQ(cudaGraphLaunch(instance, ex.cuda->stream), cudaSuccess);
  for (float value : download(step.out)) ASSERT_TRUE(std::isnan(value));
  ASSERT_EQ(cudaGraphExecDestroy(instance), cudaSuccess);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

}  // namespace
}  // namespace donar::ops

#include "ops/paged_attention.h"
#include "ops/qk_norm_rope_store.h"
#include "tests/ops/op_test.h"
#include "tests/ops/reference.h"

namespace donar::ops {
namespace {

constexpr DType kCacheTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

// A cache whose unwritten slots are NaN: a read of a key that was never stored shows.
struct Cache {
  Cache(DType dtype, int kv_heads, int head_dim, int64_t blocks)
      : bytes(static_cast<size_t>(blocks * 2 * kv_heads * kv::kBlockTokens * head_dim) *
                  dtype_size(dtype),
              std::byte{0xff}) {
    layer = {bytes.data(), dtype, blocks, kv_heads, head_dim};
  }
  void put(int64_t index, float value) {
    switch (layer.dtype) {
      case DType::kF32:
        static_cast<float*>(layer.data)[index] = value;
        break;
      case DType::kF16:
        static_cast<f16*>(layer.data)[index] = f16(value);
        break;
      default:
        static_cast<bf16*>(layer.data)[index] = bf16(value);
        break;
    }
  }
  std::vector<std::byte> bytes;
  kv::KvLayer layer;
};

struct Sequence {
  int computed;  // tokens whose keys lie in the cache already
  int rows;      // tokens of this step
};

// A step of several sequences with shuffled blocks; keys up to the last row are stored.
struct Batch {
  Batch(const std::vector<Sequence>& sequences, DType dtype, int q_heads, int kv_heads,
        int head_dim, uint32_t seed = 1)
      : q_heads(q_heads),
        head_dim(head_dim),
        cache(dtype, kv_heads, head_dim, count_blocks(sequences)) {
    max_blocks = 0;
    for (const Sequence& s : sequences)
      max_blocks = std::max(max_blocks, (s.computed + s.rows + 15) / 16);
    std::vector<int32_t> ids(static_cast<size_t>(cache.layer.num_blocks));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
    std::mt19937 generator(seed);
    std::shuffle(ids.begin(), ids.end(), generator);
    std::normal_distribution<float> normal;
    tables.assign(sequences.size() * static_cast<size_t>(max_blocks), 0x7fffffff);
    starts = {0};
    size_t next = 0;
    for (size_t s = 0; s < sequences.size(); ++s) {
      const int total = sequences[s].computed + sequences[s].rows;
      int32_t* table = &tables[s * static_cast<size_t>(max_blocks)];
      for (int b = 0; b < (total + 15) / 16; ++b) table[b] = ids[next++];
      for (int t = 0; t < total; ++t) {
        for (int head = 0; head < kv_heads; ++head) {
          for (bool value : {false, true}) {
            const int64_t at = cache.layer.index(table[t / 16], value, head, t % 16);
            for (int d = 0; d < head_dim; ++d) cache.put(at + d, normal(generator));
          }
        }
      }
      for (int r = 0; r < sequences[s].rows; ++r) {
        positions.push_back(sequences[s].computed + r);
        sequence_of.push_back(static_cast<int>(s));
      }
      starts.push_back(static_cast<int32_t>(positions.size()));
    }
    // As in a decoder: q is the first part of a wider row.
    width = (q_heads + 2 * kv_heads) * head_dim;
    qkv = reference::random_floats(static_cast<int64_t>(positions.size()) * width, seed + 1, 2.0f);
  }
  static int64_t count_blocks(const std::vector<Sequence>& sequences) {
    int64_t blocks = 3;
    for (const Sequence& s : sequences) blocks += (s.computed + s.rows + 15) / 16;
    return blocks;
  }
  int64_t rows() const { return static_cast<int64_t>(positions.size()); }

  std::vector<float> run(CpuIsa isa, int threads, const AttentionParams& params) {
    Device device(isa, threads, paged_attention_workspace_bytes(threads, q_heads, head_dim));
    std::vector<float> out = poisoned(rows() * q_heads * head_dim);
    const auto sequences = static_cast<int64_t>(starts.size()) - 1;
    paged_attention(device.ex, view(qkv, {rows(), width}), view(positions, {rows()}),
                    view(starts, {sequences + 1}), view(tables, {sequences, max_blocks}), {},
                    cache.layer, params, view(out, {rows(), q_heads * head_dim}));
    return out;
  }

  int q_heads, head_dim, max_blocks;
  int64_t width;
  Cache cache;
  std::vector<int32_t> positions, starts, tables;
  std::vector<int> sequence_of;
  std::vector<float> qkv;
};

void expect_equals_reference(Batch& batch, const AttentionParams& params,
                             const std::vector<float>& out, const std::string& what) {
  const int group = batch.q_heads / batch.cache.layer.kv_heads;
  Worst worst;
  for (int64_t r = 0; r < batch.rows(); ++r) {
    for (int head = 0; head < batch.q_heads; ++head) {
      const auto row = static_cast<size_t>(r);
      std::vector<double> spread;
      const std::vector<double> expected = reference::attend(
          &batch.qkv[row * static_cast<size_t>(batch.width) +
                     static_cast<size_t>(head * batch.head_dim)],
          batch.positions[row],
          &batch.tables[static_cast<size_t>(batch.sequence_of[row] * batch.max_blocks)],
          batch.cache.layer, head / group, params, head, &spread);
      for (int d = 0; d < batch.head_dim; ++d) {
        const int64_t column = int64_t{head} * batch.head_dim + d;
        worst.add(
            r, column, out[static_cast<size_t>(r * batch.q_heads * batch.head_dim + column)],
            expected[static_cast<size_t>(d)],
            reference::attention_tolerance(batch.cache.layer, expected[static_cast<size_t>(d)],
                                           spread[static_cast<size_t>(d)]));
      }
    }
  }
  worst.expect_within(what);
}

AttentionParams params_of(const Batch& batch) {
  return {.q_heads = batch.q_heads, .scale = 1.0f / std::sqrt(static_cast<float>(batch.head_dim))};
}

TEST(PagedAttention, equals_the_reference_for_mixed_rows_heads_and_cache_types) {
  struct Heads {
    int q, kv, dim;
  };
  for (const Heads& heads :
       {Heads{9, 3, 64}, Heads{4, 4, 16}, Heads{6, 1, 20}, Heads{8, 2, 128}, Heads{3, 3, 6}}) {
    for (DType dtype : kCacheTypes) {
      Batch batch({{0, 1}, {5, 3}, {63, 1}, {64, 70}, {0, 33}, {200, 1}}, dtype, heads.q, heads.kv,
                  heads.dim);
      for (CpuIsa isa : available_isas()) {
        const AttentionParams params = params_of(batch);
        expect_equals_reference(batch, params, batch.run(isa, 2, params),
                                fmt::format("{} {} heads {}/{} of {}", cpu_isa_name(isa),
                                            dtype_name(dtype), heads.q, heads.kv, heads.dim));
      }
    }
  }
}

TEST(PagedAttention, long_contexts_windows_and_sinks_equal_the_reference) {
  std::vector<float> sinks = {0.5f, -3.0f, 12.0f, 0.0f};
  for (int window : {0, 1, 64, 100, 600}) {
    for (bool with_sinks : {false, true}) {
      Batch batch({{1100, 2}, {511, 2}, {512, 1}, {1023, 66}, {40, 5}}, DType::kBF16, 4, 2, 32);
      AttentionParams params = params_of(batch);
      params.window = window;
      params.sinks = with_sinks ? sinks.data() : nullptr;
      for (CpuIsa isa : available_isas()) {
        expect_equals_reference(
            batch, params, batch.run(isa, 2, params),
            fmt::format("{} window {} sinks {}", cpu_isa_name(isa), window, with_sinks));
      }
    }
  }
}

TEST(PagedAttention, more_query_heads_per_kv_head_than_an_item_holds) {
  Batch batch({{10, 3}}, DType::kF32, 71, 1, 8);
  for (CpuIsa isa : available_isas()) {
    const AttentionParams params = params_of(batch);
    expect_equals_reference(batch, params, batch.run(isa, 3, params), cpu_isa_name(isa));
  }
}

TEST(PagedAttention, large_scores_do_not_overflow) {
  Batch batch({{100, 4}}, DType::kF32, 2, 1, 16);
  for (float& value : batch.qkv) value *= 300.0f;
  for (CpuIsa isa : available_isas()) {
    AttentionParams params = params_of(batch);
    std::vector<float> out = batch.run(isa, 1, params);
    for (float value : out) ASSERT_TRUE(std::isfinite(value)) << cpu_isa_name(isa);
  }
}

// Chunked = whole, alone = batched, one thread = many: bit for bit.
TEST(PagedAttention, a_row_does_not_depend_on_chunks_neighbours_or_threads) {
  for (DType dtype : kCacheTypes) {
    for (int window : {0, 90}) {
      Batch batch({{0, 130}, {700, 1}, {1300, 9}}, dtype, 6, 2, 32);
      AttentionParams params = params_of(batch);
      params.window = window;
      for (CpuIsa isa : available_isas()) {
        const std::vector<float> together = batch.run(isa, 1, params);
        for (int threads : {2, 5}) {
          const std::vector<float> out = batch.run(isa, threads, params);
          EXPECT_TRUE(same_bits(out.data(), together.data(), static_cast<int64_t>(out.size())))
              << threads << " threads";
        }
        const int64_t out_width = batch.q_heads * batch.head_dim;
        for (int64_t r = 0; r < batch.rows(); ++r) {  // every row as a decode step of its own
          const auto s = static_cast<size_t>(batch.sequence_of[static_cast<size_t>(r)]);
          Device device(isa, 2, paged_attention_workspace_bytes(2, batch.q_heads, batch.head_dim));
          std::vector<int32_t> starts = {0, 1};
          std::vector<float> out = poisoned(out_width);
          paged_attention(
              device.ex, view(batch.qkv, {batch.rows(), batch.width}).rows(r, 1),
              view(batch.positions, {batch.rows()}).rows(r, 1), view(starts, {2}),
              view(batch.tables, {static_cast<int64_t>(batch.starts.size()) - 1, batch.max_blocks})
                  .rows(static_cast<int64_t>(s), 1),
              {}, batch.cache.layer, params, view(out, {1, out_width}));
          ASSERT_TRUE(
              same_bits(out.data(), &together[static_cast<size_t>(r * out_width)], out_width))
              << cpu_isa_name(isa) << " " << dtype_name(dtype) << " row " << r;
        }
      }
    }
  }
}

// Values that rounding treats specially reach the cache as the types' own conversions make them, on
// every instruction set.
TEST(QkNormRopeStore, stores_nan_infinity_denormals_and_halfway_cases_as_the_types_do) {
  const int head_dim = 34;
  const float special[] = {NAN,      -NAN,     INFINITY,    -INFINITY,   1e-40f, -1e-40f, 3.4e38f,
                           65519.9f, 65520.0f, 1.00390625f, 1.01171875f, 6e-8f,  2.9e-8f, -0.0f};
  for (DType dtype : kCacheTypes) {
    for (CpuIsa isa : available_isas()) {
      Device device(isa);
      Cache cache(dtype, 1, head_dim, 1);
      std::vector<float> qkv(static_cast<size_t>(3 * head_dim), 0.0f);
      for (int d = 0; d < head_dim; ++d)
        qkv[static_cast<size_t>(2 * head_dim + d)] = special[d % std::ssize(special)];
      std::vector<int32_t> zero = {0};
      std::vector<float> cos_sin(static_cast<size_t>(head_dim), 1.0f);
      qk_norm_rope_store(device.ex, view(qkv, {1, 3 * head_dim}), view(zero, {1}), view(zero, {1}),
                         {}, {}, 1e-6f, view(cos_sin, {1, 2, head_dim / 2}), 1, cache.layer);
      for (int d = 0; d < head_dim; ++d) {
        const float value = special[d % std::ssize(special)];
        const float stored =
            reference::cache_value(cache.layer, cache.layer.index(0, true, 0, 0) + d);
        const float expected = dtype == DType::kF32   ? value
                               : dtype == DType::kF16 ? static_cast<float>(f16(value))
                                                      : static_cast<float>(bf16(value));
        EXPECT_TRUE(stored == expected || (std::isnan(stored) && std::isnan(expected)))
            << cpu_isa_name(isa) << " " << dtype_name(dtype) << ": " << value << " became "
            << stored << ", expected " << expected;
      }
    }
  }
}

TEST(QkNormRopeStore, rotates_q_and_writes_k_and_v_at_the_slots) {
  const int q_heads = 4, kv_heads = 2;
  for (int head_dim : {6, 16, 64, 128}) {
    for (DType dtype : kCacheTypes) {
      for (bool with_norm : {false, true}) {
        const int64_t rows = 40, width = (q_heads + 2 * kv_heads) * head_dim;
        const std::vector<float> source = reference::random_floats(rows * width, 20);
        std::vector<float> q_norm = reference::random_floats(head_dim, 21);
        std::vector<float> k_norm = reference::random_floats(head_dim, 22);
        std::vector<int32_t> positions, slots;
        for (int i = 0; i < rows; ++i) {
          positions.push_back((i * 7) % 50);
          slots.push_back(i == 5 ? -1 : 47 - i);  // 3 blocks; row 5 is not stored
        }
        std::vector<float> cos_sin;
        for (int p = 0; p < 50; ++p) {
          for (int part = 0; part < 2; ++part) {
            for (int i = 0; i < head_dim / 2; ++i) {
              const double angle = p * std::pow(10000.0, -2.0 * i / head_dim);
              cos_sin.push_back(static_cast<float>(part == 0 ? std::cos(angle) : std::sin(angle)));
            }
          }
        }
        for (CpuIsa isa : available_isas()) {
          Device device(isa, /*threads=*/3);
          Cache cache(dtype, kv_heads, head_dim, 3);
          const std::vector<std::byte> untouched = cache.bytes;
          std::vector<float> qkv = source;
          qk_norm_rope_store(device.ex, view(qkv, {rows, width}), view(positions, {rows}),
                             view(slots, {rows}),
                             with_norm ? view(q_norm, {head_dim}) : TensorView{},
                             with_norm ? view(k_norm, {head_dim}) : TensorView{}, 1e-6f,
                             view(cos_sin, {50, 2, head_dim / 2}), q_heads, cache.layer);
          const double epsilon = dtype == DType::kF32   ? 2e-6
                                 : dtype == DType::kF16 ? 1.0 / 1024
                                                        : 1.0 / 128;
          Worst q_worst, k_worst, v_worst;
          for (int64_t r = 0; r < rows; ++r) {
            const float* row = &source[static_cast<size_t>(r * width)];
            const float* angles =
                &cos_sin[static_cast<size_t>(positions[static_cast<size_t>(r)] * head_dim)];
            for (int head = 0; head < q_heads; ++head) {
              const auto expected =
                  reference::norm_rope(row + head * head_dim, with_norm ? q_norm.data() : nullptr,
                                       1e-6f, angles, head_dim);
              for (int d = 0; d < head_dim; ++d) {
                q_worst.add(r, d, qkv[static_cast<size_t>(r * width + head * head_dim + d)],
                            expected[static_cast<size_t>(d)], 1e-5);
              }
            }
            const int slot = slots[static_cast<size_t>(r)];
            if (slot < 0) continue;
            for (int head = 0; head < kv_heads; ++head) {
              const float* k = row + (q_heads + head) * head_dim;
              const float* v = k + kv_heads * head_dim;
              const auto expected = reference::norm_rope(k, with_norm ? k_norm.data() : nullptr,
                                                         1e-6f, angles, head_dim);
              for (int d = 0; d < head_dim; ++d) {
                const double stored_k = reference::cache_value(
                    cache.layer, cache.layer.index(slot / 16, false, head, slot % 16) + d);
                const double stored_v = reference::cache_value(
                    cache.layer, cache.layer.index(slot / 16, true, head, slot % 16) + d);
                k_worst.add(r, d, stored_k, expected[static_cast<size_t>(d)],
                            epsilon * std::fabs(expected[static_cast<size_t>(d)]) + 1e-5);
                const float rounded = dtype == DType::kF32   ? v[d]
                                      : dtype == DType::kF16 ? static_cast<float>(f16(v[d]))
                                                             : static_cast<float>(bf16(v[d]));
                v_worst.add(r, d, stored_v, rounded, 1e-30);  // rounded once, to nearest even
              }
            }
          }
          const std::string what = fmt::format("{} {} head {} norm {}", cpu_isa_name(isa),
                                               dtype_name(dtype), head_dim, with_norm);
          q_worst.expect_within(what + " q");
          k_worst.expect_within(what + " k");
          v_worst.expect_within(what + " v");
          // Slots 0..7 and 42 (row 5) belong to nobody.
          const size_t size = dtype_size(dtype);
          for (int slot : {0, 7, 42}) {
            for (bool value : {false, true}) {
              const auto at =
                  static_cast<size_t>(cache.layer.index(slot / 16, value, 1, slot % 16)) * size;
              EXPECT_EQ(std::memcmp(&cache.bytes[at], &untouched[at],
                                    static_cast<size_t>(head_dim) * size),
                        0)
                  << what << " slot " << slot;
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace donar::ops

#include "ops/cuda/paged_attention_layout.h"
#include "ops/qk_norm_rope_store.h"
#include "tests/ops/cuda_device.h"
#include "tests/ops/op_test.h"
#include "tests/ops/reference.h"

namespace donar::ops {
namespace {

constexpr int kBlock = kv::kBlockTokens;
constexpr float kEps = 1e-6f;

// A step of random rows; slots run backwards through the cache, every fifth row is not stored.
struct Case {
  Case(int q_heads_, int kv_heads_, int head_dim_, int64_t rows_, int64_t parts_)
      : q_heads(q_heads_), kv_heads(kv_heads_), head_dim(head_dim_), rows(rows_), parts(parts_) {
    width = (q_heads + 2 * int64_t{kv_heads}) * head_dim;
    source = reference::random_floats(parts * rows * width, 20);
    q_norm = reference::random_floats(head_dim, 21);
    k_norm = reference::random_floats(head_dim, 22);
    blocks = (rows + kBlock - 1) / kBlock + 1;
    for (int64_t i = 0; i < rows; ++i) {
      positions.push_back(static_cast<int32_t>((i * 7) % kPositions));
      slots.push_back(static_cast<int32_t>(i % 5 == 3 ? -1 : blocks * kBlock - 1 - i));
    }
    for (int p = 0; p < kPositions; ++p) {
      for (int part = 0; part < 2; ++part) {
        for (int i = 0; i < head_dim / 2; ++i) {
          const double angle = p * std::pow(10000.0, -2.0 * i / head_dim);
          cos_sin.push_back(static_cast<float>(part == 0 ? std::cos(angle) : std::sin(angle)));
        }
      }
    }
  }
  // The head's values: the sum of the parts.
  std::vector<float> head(int64_t row, int64_t index) const {
    std::vector<float> values(static_cast<size_t>(head_dim), 0.0f);
    for (int64_t p = 0; p < parts; ++p) {
      for (int d = 0; d < head_dim; ++d)
        values[static_cast<size_t>(d)] +=
            source[static_cast<size_t>((p * rows + row) * width + index * head_dim + d)];
    }
    return values;
  }

  static constexpr int kPositions = 50;
  int q_heads, kv_heads, head_dim;
  int64_t rows, parts, width, blocks;
  std::vector<float> source, q_norm, k_norm, cos_sin;
  std::vector<int32_t> positions, slots;
};

struct Stored {
  std::vector<float> q;
  std::vector<uint16_t> cache;
};

class CudaRope : public CudaTest {
 public:
  Stored run(const Case& c, DType in, bool with_norm) {
    const int64_t cells = c.blocks * 2 * c.kv_heads * kBlock * c.head_dim;
    const TensorView cache = poisoned(ex.activation, {cells});
    const TensorView q = poisoned(ex.activation, {c.rows, c.q_heads * int64_t{c.head_dim}});
    const kv::KvLayer layer = {cache.data, ex.activation, c.blocks, c.kv_heads, c.head_dim};
    qk_norm_rope_store(
        ex, upload_as(in, c.source, {c.parts, c.rows, c.width}), upload(c.positions, {c.rows}),
        upload(c.slots, {c.rows}), with_norm ? upload(c.q_norm, {c.head_dim}) : TensorView{},
        with_norm ? upload(c.k_norm, {c.head_dim}) : TensorView{}, kEps,
        upload(c.cos_sin, {Case::kPositions, 2, c.head_dim / 2}), c.q_heads, layer, q);
    Stored stored = {download(q), download_raw<uint16_t>(cache)};
    free_tensors();
    return stored;
  }

  void check(const Case& c, DType in, bool with_norm) {
    Case rounded = c;
    rounded.source = rounded_to(in, c.source);
    const Stored stored = run(c, in, with_norm);
    // One rounding to 16 bits, and sums of floats before it.
    const double epsilon = ex.activation == DType::kF16 ? 1.0 / 1024 : 1.0 / 128;
    const kv::KvLayer layer = {nullptr, ex.activation, c.blocks, c.kv_heads, c.head_dim};
    std::vector<bool> written(stored.cache.size(), false);
    const auto cell = [&](int slot, bool value, int head, int d) {
      const int64_t at = layer.index(slot / kBlock, value, head, 0) +
                         cuda::cache_offset(slot % kBlock, d, c.head_dim);
      written[static_cast<size_t>(at)] = true;
      return from_16_bits(ex.activation, stored.cache[static_cast<size_t>(at)]);
    };
    Worst q_worst, k_worst, v_worst;
    for (int64_t r = 0; r < c.rows; ++r) {
      const int slot = c.slots[static_cast<size_t>(r)];
      const float* angles =
          &c.cos_sin[static_cast<size_t>(c.positions[static_cast<size_t>(r)] * c.head_dim)];
      for (int head = 0; head < c.q_heads + 2 * c.kv_heads; ++head) {
        const std::vector<float> x = rounded.head(r, head);
        const bool is_query = head < c.q_heads;
        const bool is_value = head >= c.q_heads + c.kv_heads;
        if (!is_query && slot < 0) continue;
        const float* norm = !with_norm ? nullptr : is_query ? c.q_norm.data() : c.k_norm.data();
        const std::vector<double> turned =
            reference::norm_rope(x.data(), norm, kEps, angles, c.head_dim);
        const int kv_head = head - c.q_heads - (is_value ? c.kv_heads : 0);
        for (int d = 0; d < c.head_dim; ++d) {
          const auto i = static_cast<size_t>(d);
          if (is_query) {
            q_worst.add(r, head * c.head_dim + d,
                        stored.q[static_cast<size_t>((r * c.q_heads + head) * c.head_dim + d)],
                        turned[i], epsilon * std::fabs(turned[i]) + 2e-5);
          } else if (is_value) {  // rounded once
            v_worst.add(r, d, cell(slot, true, kv_head, d),
                        from_16_bits(ex.activation, to_16_bits(ex.activation, x[i])), 1e-30);
          } else {
            k_worst.add(r, d, cell(slot, false, kv_head, d), turned[i],
                        epsilon * std::fabs(turned[i]) + 2e-5);
          }
        }
      }
    }
    const std::string what =
        fmt::format("{} from {} parts of {}, {} + 2 * {} heads of {}, {} rows, norm {}",
                    dtype_name(ex.activation), c.parts, dtype_name(in), c.q_heads, c.kv_heads,
                    c.head_dim, c.rows, with_norm);
    q_worst.expect_within(what + ", q");
    k_worst.expect_within(what + ", k");
    v_worst.expect_within(what + ", v");
    int64_t touched = 0;
    for (size_t i = 0; i < stored.cache.size(); ++i)
      touched += !written[i] && stored.cache[i] != 0xffff ? 1 : 0;
    EXPECT_EQ(touched, 0) << what << ": values at slots of nobody";
  }
};

TEST_F(CudaRope, equals_the_reference_for_all_heads_and_types) {
  for (int head_dim : {6, 8, 12, 16, 34, 64, 80, 96, 128, 192, 256}) {
    for (DType dtype : {DType::kBF16, DType::kF16}) {
      ex.activation = dtype;
      for (bool with_norm : {false, true}) {
        for (int parts : {1, 4}) check(Case(5, 2, head_dim, 40, parts), DType::kF32, with_norm);
        check(Case(5, 2, head_dim, 40, 1), dtype, with_norm);
      }
    }
  }
}

TEST_F(CudaRope, one_row_and_many_rows) {
  check(Case(32, 8, 128, 1, 4), DType::kF32, false);
  check(Case(32, 8, 128, 1, 9), DType::kF32, true);
  check(Case(32, 8, 128, 300, 1), DType::kBF16, true);
  check(Case(3, 1, 64, 1000, 1), DType::kBF16, false);
}

TEST_F(CudaRope, a_row_does_not_depend_on_its_neighbours) {
  const Case c(6, 2, 128, 33, 3);
  const Stored together = run(c, DType::kF32, true);
  const auto q_width = static_cast<size_t>(c.q_heads * c.head_dim);
  for (int64_t r = 0; r < c.rows; ++r) {
    Case alone = c;
    alone.rows = 1;
    alone.source.clear();
    for (int64_t p = 0; p < c.parts; ++p) {
      const auto from = c.source.begin() + (p * c.rows + r) * c.width;
      alone.source.insert(alone.source.end(), from, from + c.width);
    }
    alone.positions = {c.positions[static_cast<size_t>(r)]};
    alone.slots = {c.slots[static_cast<size_t>(r)]};
    const Stored single = run(alone, DType::kF32, true);
    ASSERT_TRUE(same_bits(single.q.data(), &together.q[static_cast<size_t>(r) * q_width],
                          static_cast<int64_t>(q_width)))
        << "row " << r;
    for (size_t i = 0; i < single.cache.size(); ++i) {
      if (single.cache[i] != 0xffff) {
        ASSERT_EQ(single.cache[i], together.cache[i]) << "row " << r;
      }
    }
  }
}

TEST_F(CudaRope, no_rows_is_no_work) {
  Case c(2, 1, 64, 1, 1);
  c.rows = 0;
  c.source.clear(), c.positions.clear(), c.slots.clear();
  for (uint16_t bits : run(c, DType::kF32, false).cache) ASSERT_EQ(bits, 0xffff);
}

}  // namespace
}  // namespace donar::ops

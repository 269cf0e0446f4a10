// Packing on the device against the formats' reference: every format, rows of heads and of gate and
// up in their places.
#include <string>
#include <vector>

#include "ops/cuda/repack.h"
#include "tests/ops/cuda_device.h"
#include "tests/ops/op_test.h"
#include "tests/ops/reference.h"

namespace donar::ops {
namespace {

TEST(Repack, gguf_rows_of_a_head_go_back_to_its_halves) {
  const int64_t head_rows = 6;
  std::vector<int64_t> rows;
  for (int64_t r = 0; r < 12; ++r) rows.push_back(cuda::unpermuted_row(r, head_rows));
  EXPECT_EQ(rows, (std::vector<int64_t>{0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11}));
}

class CudaRepack : public CudaTest {
 protected:
  // Packs `stored` in two pieces as the loader does, and notes what must come out.
  void pack(const reference::StoredMatrix& stored, cuda::RepackParams params,
            const TensorView& packed, std::vector<uint16_t>& expected) {
    params.format = stored.format;
    params.bf16 = ex.activation == DType::kBF16;
    params.k = stored.k;
    params.packed = packed.data;
    const int64_t half = stored.n / 2 + 1;
    for (const auto& [begin, rows] :
         {std::pair<int64_t, int64_t>{0, half}, {half, stored.n - half}}) {
      const int64_t bytes = rows * quant::row_bytes(stored.format, stored.k);
      const TensorView staged = poisoned(DType::kU8, {bytes});
      cuda_copy(staged.data, stored.row(begin), static_cast<uint64_t>(bytes), ex.cuda->stream);
      params.stored = staged.data;
      params.row_begin = begin;
      params.rows = rows;
      cuda::repack(params, *ex.cuda);
    }
    params.row_begin = 0;
    for (int64_t r = 0; r < stored.n; ++r) {
      std::vector<float> values = stored.row_values(r);
      values.resize(static_cast<size_t>(num_k_tiles(stored.k) * kTileK));
      for (size_t i = 0; i < values.size(); ++i)
        expected[static_cast<size_t>(tiled_weight_offset(
            params.packed_row(r), static_cast<int64_t>(i), stored.k, params.tile_rows))] =
            to_16_bits(ex.activation, values[i]);
    }
  }

  TensorView packed_matrix(int64_t rows, int64_t k, int tile_rows,
                           std::vector<uint16_t>& expected) {
    expected.assign(static_cast<size_t>(tiled_weight_elements(rows, k, tile_rows)), 0xffff);
    return poisoned(ex.activation, {static_cast<int64_t>(expected.size())});
  }

  void expect_bits(const TensorView& packed, const std::vector<uint16_t>& expected,
                   const std::string& what) {
    const std::vector<uint16_t> actual = download_raw<uint16_t>(packed);
    for (size_t i = 0; i < expected.size(); ++i)
      ASSERT_EQ(actual[i], expected[i]) << what << ": element " << i << " of " << expected.size();
  }
};

TEST_F(CudaRepack, every_format_comes_out_as_the_reference_unpacks_it) {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    ex.activation = dtype;
    for (const quant::FormatInfo& format : quant::formats()) {
      // Plain rows may have any length; 61 and 33 leave them unaligned.
      const std::vector<int64_t> widths =
          format.block_values == 1    ? std::vector<int64_t>{61, 33, 320}
          : format.block_values == 32 ? std::vector<int64_t>{32, 352}
                                      : std::vector<int64_t>{256, 768};
      for (int64_t k : widths) {
        const std::string what = fmt::format("{} to {}, k {}", format.name, dtype_name(dtype), k);
        const int tile_rows = 32;
        std::vector<uint16_t> expected;
        // q (4 heads of 10 rows), k (2 heads), v, one after the other.
        const TensorView qkv = packed_matrix(80, k, tile_rows, expected);
        cuda::RepackParams params;
        params.tile_rows = tile_rows;
        params.head_rows = 10;
        pack(reference::random_matrix(format.format, 40, k, 1), params, qkv, expected);
        params.first_row = 40;
        pack(reference::random_matrix(format.format, 20, k, 2), params, qkv, expected);
        params.first_row = 60;
        params.head_rows = 0;
        pack(reference::random_matrix(format.format, 20, k, 3), params, qkv, expected);
        expect_bits(qkv, expected, what + ", qkv");

        const TensorView gate_up = packed_matrix(96, k, 96, expected);
        cuda::RepackParams gated;
        gated.tile_rows = 96;
        for (int part = 0; part < 2; ++part) {
          gated.gate_or_up = part;
          pack(reference::random_matrix(format.format, 45, k, 4 + static_cast<uint32_t>(part)),
               gated, gate_up, expected);
        }
        expect_bits(gate_up, expected, what + ", gate and up");
        free_tensors();
      }
    }
  }
}

}  // namespace
}  // namespace donar::ops

// The plan of a load on CUDA, carried out on the host as the kernels would: every row of the file
// lands where the model wants it, nothing else is touched, and the 16-bit type is the checkpoint's.
#include <gtest/gtest.h>

#include "model/cuda_loader.h"
#include "tests/model/cuda_weights.h"
#include "tests/model/runner.h"

namespace donar::model::test {
namespace {

// What copies and kernels do, row by row from the pieces of the read plan.
void carry_out(const ModelFiles& files, const LoadPlan& plan, DType activation,
               const ReadLimits& limits, std::byte* weights) {
  const Result<ReadPlan> reads = plan_reads(files, plan, limits);
  ASSERT_OK(reads);
  for (const Piece& piece : reads->pieces) {
    const LoadItem& item = *piece.item;
    const Extent& extent = reads->extents[piece.extent];
    std::vector<std::byte> stored(piece.bytes());
    ASSERT_LE(extent.begin + piece.offset + piece.bytes(), extent.end);
    ASSERT_OK(files.checkpoint.files[static_cast<size_t>(extent.file)].read_at(
        extent.begin + piece.offset, stored));
    if (item.is_vector) {
      ASSERT_GE(item.place, plan.matrix_bytes);
      pack_vector(item, stored.data(), reinterpret_cast<float*>(weights + item.place));
      continue;
    }
    ASSERT_LT(item.place, plan.matrix_bytes);
    const ops::cuda::RepackParams params = repack_params(piece, stored.data(), weights);
    EXPECT_EQ(params.bf16, activation == DType::kBF16);
    auto* packed = static_cast<uint16_t*>(params.packed);
    std::vector<float> values(static_cast<size_t>(params.k));
    for (int64_t i = 0; i < params.rows; ++i) {
      quant::unpack_row(params.format, stored.data() + i * item.stored_row_bytes(), params.k,
                        values.data());
      const int64_t row = params.packed_row(i);
      for (int64_t k = 0; k < params.k; ++k)
        packed[ops::tiled_weight_offset(row, k, params.k, params.tile_rows)] =
            bits_of(values[static_cast<size_t>(k)], activation);
    }
  }
}

// And made-up weights.
void carry_out_dummy(const LoadPlan& plan, std::byte* weights) {
  for (size_t index = 0; index < plan.items.size(); ++index) {
    const LoadItem& item = plan.items[index];
    if (item.is_vector) {
      pack_dummy_vector(item, dummy_seed(index), reinterpret_cast<float*>(weights + item.place));
      continue;
    }
    const ops::cuda::FillRandomParams params = fill_params(item, index, weights);
    auto* packed = static_cast<uint16_t*>(params.packed);
    for (int64_t row = 0; row < params.n; ++row) {
      const int64_t at = params.gate_or_up >= 0 ? ops::interleaved_row(row, params.gate_or_up)
                                                : params.first_row + row;
      for (int64_t k = 0; k < params.k; ++k)
        packed[ops::tiled_weight_offset(at, k, params.k, params.tile_rows)] =
            bits_of(ops::random_value(params.seed, row, k, params.scale), DType::kBF16);
    }
  }
}

void check_plan(const fs::path& path, int num_sms, const LoadOptions& options,
                DType expected_dtype) {
  SCOPED_TRACE(fmt::format("{}, {} SMs", path.string(), num_sms));
  const bool is_dummy = options.load_format == LoadFormat::kDummy;
  const auto cpu = Runner::open(path, {.load_format = options.load_format});
  ASSERT_TRUE(cpu);
  const ModelFiles& files = cpu->files();
  const Result<DType> dtype = cuda_dtype(files, options);
  ASSERT_OK(dtype);
  ASSERT_EQ(*dtype, expected_dtype);
  const PlannedDevice device(num_sms, *dtype);
  const Result<LoadPlan> sizes = plan_load(files, options, device.ex, nullptr);
  ASSERT_OK(sizes);
  // Every matrix begins at a multiple of 1,024 bytes, an atom of the swizzle.
  std::vector<std::byte> memory(sizes->packed_bytes + 1024);
  auto* buffer = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(memory.data()) + 1023) /
                                              1024 * 1024);
  const Result<LoadPlan> plan = plan_load(files, options, device.ex, buffer);
  ASSERT_OK(plan);
  EXPECT_EQ(plan->packed_bytes, sizes->packed_bytes);
  EXPECT_EQ(plan->weights.bytes, plan->packed_bytes);
  for (const LoadItem& item : plan->items) EXPECT_EQ(item.place % (item.is_vector ? 4 : 1024), 0u);
  // Pieces of a few rows, so that heads and runs of 8 are cut anywhere.
  if (is_dummy)
    carry_out_dummy(*plan, buffer);
  else
    carry_out(files, *plan, *dtype,
              {.extent_bytes = 700, .max_extent_bytes = 1 << 20, .whole_units = false}, buffer);
  TiledComparison comparison(*dtype);
  comparison.weights(files.config, cpu->weights(), plan->weights);
  comparison.rest_is_zero(buffer, plan->packed_bytes);
}

TEST(CudaPlan, every_row_of_a_checkpoint_lands_where_the_model_wants_it) {
  for (const char* name : {"llama", "llama_bias_tied", "mistral_window", "qwen2", "qwen3"})
    for (const int num_sms : {1, 8, 132}) check_plan(tiny(name), num_sms, {}, DType::kBF16);
}

TEST(CudaPlan, gguf_rows_are_put_back_into_the_order_of_the_head) {
  check_plan(tiny("llama") / "model.gguf", 132, {}, DType::kBF16);
}

TEST(CudaPlan, weights_are_cast_to_the_16_bit_type_that_is_asked_for) {
  check_plan(tiny("qwen3"), 132, {.dtype = DType::kF16}, DType::kF16);
}

TEST(CudaPlan, matrices_of_several_formats_become_one) {
  const TempDir dir;
  check_plan(write_mixed_gguf(dir), 132, {}, DType::kBF16);
}

TEST(CudaPlan, made_up_weights_are_those_of_the_cpu) {
  for (const char* name : {"llama_bias_tied", "qwen2", "qwen3"}) {
    const TempDir dir;
    dir.write("config.json", read_bytes(tiny(name) / "config.json"));
    check_plan(dir.path(), 132, {.load_format = LoadFormat::kDummy}, DType::kBF16);
  }
}

TEST(CudaPlan, a_row_map_has_an_inverse_and_leaves_no_row_out) {
  for (const auto& [heads, d] : {std::pair(4, 8), std::pair(2, 6), std::pair(1, 16)}) {
    for (int64_t row = 0; row < heads * d; ++row)
      EXPECT_EQ(unpermuted_row(permuted_row(row, d), d), row) << heads << " heads of " << d;
  }
  // 20 rows of gate and up: 24 runs' worth of places, 8 of them free.
  std::set<int64_t> places;
  LoadItem item;
  item.n = 20;
  for (item.gate_or_up = 0; item.gate_or_up < 2; ++item.gate_or_up)
    for (int64_t row = 0; row < item.n; ++row) places.insert(item.packed_row(row));
  EXPECT_EQ(places.size(), 40u);
  EXPECT_LT(*places.rbegin(), 48);
}

TEST(CudaPlan, the_activation_type_is_that_of_the_checkpoint) {
  ModelFiles files;
  EXPECT_EQ(*cuda_dtype(files, {}), DType::kBF16);  // dummy weights of a config
  const auto add = [&](const std::string& name, quant::Format format, std::vector<int64_t> shape) {
    TensorEntry entry;
    entry.name = name;
    entry.format = format;
    entry.shape = std::move(shape);
    files.checkpoint.tensors[name] = entry;
  };
  add("a", quant::Format::kF32, {2, 2});
  EXPECT_EQ(*cuda_dtype(files, {}), DType::kBF16);
  add("b", quant::Format::kF16, {2, 2});
  add("norm", quant::Format::kBF16, {2});
  EXPECT_EQ(*cuda_dtype(files, {}), DType::kF16);
  add("c", quant::Format::kQ8_0, {2, 32});
  EXPECT_EQ(*cuda_dtype(files, {}), DType::kBF16);
  EXPECT_EQ(*cuda_dtype(files, {.dtype = DType::kF16}), DType::kF16);
  EXPECT_ERROR_SAYS(cuda_dtype(files, {.dtype = DType::kF32}), "float32", "--device cpu");
}

TEST(CudaPlan, a_model_of_8_billion_weights_takes_two_bytes_each) {
  ModelFiles files;
  files.config.vocab_size = 128256;
  files.config.dim = 4096;
  files.config.ffn_dim = 14336;
  files.config.q_heads = 32;
  files.config.kv_heads = 8;
  files.config.head_dim = 128;
  files.config.layers.resize(32);
  const PlannedDevice device(132, DType::kBF16);
  const Result<Weights> weights =
      plan_weights(device.ex, files, {.load_format = LoadFormat::kDummy});
  ASSERT_OK(weights);
  const double values =
      2.0 * 128256 * 4096 + 32.0 * (6144 * 4096 + 4096 * 4096 + 3 * 14336.0 * 4096) + 65 * 4096;
  EXPECT_GT(static_cast<double>(weights->bytes), 2 * values);
  EXPECT_LT(static_cast<double>(weights->bytes), 2.02 * values) << "padding";
}

}  // namespace
}  // namespace donar::model::test

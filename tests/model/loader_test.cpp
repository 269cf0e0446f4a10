// Loading: what lies in the weight buffer equals what the file says, whatever the container, order,
// dtype and alignment; memory stays within its bound; a checkpoint that does not fit its config
// says so.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>

#include "model/load_plan.h"
#include "ops/linear.h"
#include "tests/model/large_model.h"
#include "tests/model/runner.h"

namespace donar::model::test {
namespace {

std::vector<float> row_of(const quant::LinearWeight& weight, int64_t row) {
  std::vector<float> values(static_cast<size_t>(weight.k));
  ops::unpack_packed_row(weight, row, values.data());
  return values;
}

std::vector<float> stored_row(const Checkpoint& checkpoint, const std::string& name, int64_t row) {
  const TensorEntry& entry = checkpoint.tensors.at(name);
  const int64_t k = entry.shape.back(), bytes = quant::row_bytes(entry.format, k);
  std::vector<std::byte> stored(static_cast<size_t>(bytes));
  EXPECT_TRUE(checkpoint.files[static_cast<size_t>(entry.file)]
                  .read_at(entry.offset + static_cast<uint64_t>(row * bytes), stored)
                  .has_value());
  std::vector<float> values(static_cast<size_t>(k));
  quant::unpack_row(entry.format, stored.data(), k, values.data());
  return values;
}

TEST(Loader, every_row_is_the_row_of_the_file) {
  for (const std::optional<DType> dtype : {std::optional<DType>(), std::optional(DType::kF32)}) {
    const auto runner = Runner::open(tiny("llama"), {.dtype = dtype});
    ASSERT_TRUE(runner);
    const Weights& weights = runner->weights();
    const Checkpoint& checkpoint = runner->files().checkpoint;
    EXPECT_EQ(weights.embedding.format, dtype ? quant::Format::kF32 : quant::Format::kBF16);
    const auto check = [&](const quant::LinearWeight& weight, const std::string& name) {
      for (int64_t row = 0; row < weight.n; ++row)
        EXPECT_EQ(row_of(weight, row), stored_row(checkpoint, name, row))
            << name << ", row " << row;
    };
    check(weights.embedding, "model.embed_tokens.weight");
    check(weights.head.parts[0], "lm_head.weight");
    check(weights.layers[2].qkv.parts[1], "model.layers.2.self_attn.k_proj.weight");
    check(weights.layers[1].down.parts[0], "model.layers.1.mlp.down_proj.weight");
    const auto norm = stored_row(checkpoint, "model.layers.1.input_layernorm.weight", 0);
    EXPECT_EQ(std::vector<float>(weights.layers[1].attn_norm.as<float>(),
                                 weights.layers[1].attn_norm.as<float>() + 32),
              norm);
  }
}

TEST(Loader, gguf_rows_are_put_back_into_the_order_of_the_head) {
  const auto gguf = Runner::open(tiny("llama") / "model.gguf", {});
  const auto directory = Runner::open(tiny("llama"), {});
  ASSERT_TRUE(gguf && directory);
  for (size_t layer = 0; layer < 3; ++layer)
    for (size_t part = 0; part < 3; ++part) {
      const quant::LinearWeight& a = gguf->weights().layers[layer].qkv.parts[part];
      const quant::LinearWeight& b = directory->weights().layers[layer].qkv.parts[part];
      for (int64_t row = 0; row < a.n; ++row)
        EXPECT_EQ(row_of(a, row), row_of(b, row)) << layer << " " << part << " " << row;
    }
}

TEST(Loader, permuted_rows_equal_the_converters_order) {
  const Checkpoint golden = open_golden(data_dir() / "permute.safetensors");
  for (const auto& [heads, d] : {std::pair(4, 8), std::pair(2, 6), std::pair(1, 16)}) {
    const auto hf = read_tensor<float>(golden, fmt::format("hf.h{}.d{}", heads, d));
    const auto gguf = read_tensor<float>(golden, fmt::format("gguf.h{}.d{}", heads, d));
    ASSERT_EQ(hf.size(), static_cast<size_t>(heads * d * 3));
    for (int64_t row = 0; row < heads * d; ++row)
      EXPECT_EQ(hf[static_cast<size_t>(row * 3)],
                gguf[static_cast<size_t>(permuted_row(row, d) * 3)])
          << row;
  }
}

TEST(Loader, a_tied_head_is_one_copy) {
  const auto runner = Runner::open(tiny("llama_bias_tied"), {});
  ASSERT_TRUE(runner);
  const Weights& weights = runner->weights();
  EXPECT_EQ(weights.head.parts[0].data, weights.embedding.data);
  EXPECT_NE(weights.layers[0].qkv.parts[0].bias, nullptr);
  EXPECT_NE(weights.layers[0].attn_out.parts[0].bias, nullptr);
  EXPECT_NE(weights.layers[0].down.parts[0].bias, nullptr);
}

TEST(Loader, casts_plain_floats_to_the_dtype_that_is_asked_for) {
  const auto runner = Runner::open(tiny("qwen3"), {.dtype = DType::kF16});
  ASSERT_TRUE(runner);
  const quant::LinearWeight& weight = runner->weights().embedding;
  EXPECT_EQ(weight.format, quant::Format::kF16);
  const auto stored = stored_row(runner->files().checkpoint, "model.embed_tokens.weight", 5);
  const auto packed = row_of(weight, 5);
  for (size_t i = 0; i < stored.size(); ++i)
    EXPECT_EQ(packed[i], static_cast<float>(f16(stored[i])));
}

TEST(Loader, weights_take_what_weight_bytes_says_and_staging_goes_home) {
  const auto runner = Runner::open(tiny("llama"), {});
  ASSERT_TRUE(runner);
  const Result<uint64_t> bytes = weight_bytes(runner->files(), {});
  ASSERT_OK(bytes);
  EXPECT_EQ(runner->ledger().used(MemoryUse::kWeights), *bytes);
  EXPECT_EQ(runner->weights().bytes, *bytes);
  EXPECT_EQ(runner->ledger().used(MemoryUse::kStaging), 0u);
}

TEST(Loader, large_tensors_stream_through_bounded_staging) {
  for (const size_t padding : {0u, 1u}) {
    const TempDir dir;
    LargeModel::write(dir.path(), padding);
    const Result<ModelFiles> files = open_model(dir.path());
    ASSERT_OK(files);
    const Result<uint64_t> packed = weight_bytes(*files, {});
    ASSERT_OK(packed);
    MemoryLedger ledger(*packed + kStagingBound);  // a load that wants more is refused
    ThreadPool pool(2);
    Exec ex;
    ex.pool = &pool;
    uint64_t staging = 0, last = 0, total = 0;
    int calls = 0;
    LoadOptions options;
    options.on_progress = [&](uint64_t done, uint64_t all) {
      EXPECT_GE(done, last);
      last = done;
      total = all;
      staging = std::max(staging, ledger.used(MemoryUse::kStaging));
      ++calls;
    };
    const Result<Weights> weights = load_weights(ex, ledger, *files, options);
    ASSERT_OK(weights);
    EXPECT_EQ(last, total);
    EXPECT_GE(calls, 13);  // eleven tensors, one of them in at least three pieces
    EXPECT_GT(staging, 0u);
    EXPECT_LE(staging, kStagingBound);
    EXPECT_EQ(ledger.used(MemoryUse::kStaging), 0u);
    for (int64_t row = 0; row < LargeModel::kVocab; row += 61) {
      const auto values = row_of(weights->embedding, row);
      for (int64_t i = 0; i < LargeModel::kDim; ++i) {
        const uint32_t bits = uint32_t{LargeModel::value(0, row * LargeModel::kDim + i)} << 16;
        ASSERT_EQ(values[static_cast<size_t>(i)], std::bit_cast<float>(bits)) << row << ", " << i;
      }
    }
    const auto down = row_of(weights->layers[0].down.parts[0], 511);
    for (int64_t i = 0; i < LargeModel::kFfn; ++i)
      ASSERT_EQ(
          down[static_cast<size_t>(i)],
          std::bit_cast<float>(uint32_t{LargeModel::value(9, 511 * LargeModel::kFfn + i)} << 16))
          << i;
  }
}

TEST(Loader, a_cold_file_stays_out_of_the_page_cache_and_a_warm_one_stays_in) {
  const TempDir dir;
  LargeModel::write(dir.path(), 0);
  const fs::path path = dir.path() / "model.safetensors";
  const auto load = [&] {
    const Result<ModelFiles> files = open_model(dir.path());
    ASSERT_OK(files);
    MemoryLedger ledger;
    ThreadPool pool(2);
    Exec ex;
    ex.pool = &pool;
    ASSERT_OK(load_weights(ex, ledger, *files, {}));
  };
  EXPECT_GT(resident_share(path), 0.99);  // just written
  load();
  EXPECT_GT(resident_share(path), 0.99);
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(::fsync(fd), 0);
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  ::close(fd);
  if (resident_share(path) > 0.01) GTEST_SKIP() << "this file system keeps files in memory";
  load();
  EXPECT_LT(resident_share(path), 0.1);
}

TEST(Loader, a_ledger_without_room_refuses_before_anything_is_read) {
  const Result<ModelFiles> files = open_model(tiny("llama"));
  ASSERT_OK(files);
  MemoryLedger ledger(1000);
  ThreadPool pool(1);
  Exec ex;
  ex.pool = &pool;
  const Result<Weights> weights = load_weights(ex, ledger, *files, {});
  ASSERT_FALSE(weights.has_value());
  EXPECT_EQ(weights.error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(ledger.total(), 0u);
}

// The tiny llama with its config or its header changed; what load_weights says.
Result<Weights> load_changed(const std::string& from, const std::string& to) {
  const TempDir dir;
  for (const char* name : {"config.json", "model.safetensors"}) {
    std::string bytes = read_bytes(tiny("llama") / name);
    const size_t at = bytes.find(from);
    if (at != std::string::npos) bytes.replace(at, from.size(), to);
    dir.write(name, bytes);
  }
  const Result<ModelFiles> files = open_model(dir.path());
  if (!files) return tl::unexpected(files.error());
  MemoryLedger ledger;
  ThreadPool pool(1);
  Exec ex;
  ex.pool = &pool;
  Result<Weights> weights = load_weights(ex, ledger, *files, {});
  if (!weights) return weights;
  return Weights{};  // the ledger goes away with this function
}

TEST(Loader, a_checkpoint_that_does_not_fit_its_config_is_named_with_expected_and_found) {
  ASSERT_OK(load_changed("no such text", ""));
  EXPECT_ERROR_SAYS(load_changed(R"("vocab_size": 61)", R"("vocab_size": 60)"), "model.safetensors",
                    "model.embed_tokens.weight", "[60, 32]", "[61, 32]");
  EXPECT_ERROR_SAYS(load_changed(R"("num_hidden_layers": 3)", R"("num_hidden_layers": 4)"),
                    "model.layers.3.", "missing");
  EXPECT_ERROR_SAYS(load_changed(R"("intermediate_size": 48)", R"("intermediate_size": 64)"),
                    "gate_proj", "[64, 32]", "[48, 32]");
  EXPECT_ERROR_SAYS(load_changed("LlamaForCausalLM", "Qwen2ForCausalLM"), "q_proj.bias", "missing");
  EXPECT_ERROR_SAYS(load_changed("LlamaForCausalLM", "Qwen3ForCausalLM"), "q_norm", "missing");
  EXPECT_ERROR_SAYS(load_changed("model.norm.weight", "model.norm.height"), "model.norm.weight",
                    "missing");
  EXPECT_ERROR_SAYS(
      load_changed(R"("lm_head.weight":{"dtype":"BF16")", R"("lm_head.weight":{"dtype":"I16" )"),
      "lm_head.weight", "I16", "not supported");
}

TEST(Loader, a_file_that_shrinks_after_it_was_opened_is_an_error) {
  const TempDir dir;
  for (const char* name : {"config.json", "model.safetensors"})
    dir.write(name, read_bytes(tiny("llama") / name));
  const Result<ModelFiles> files = open_model(dir.path());
  ASSERT_OK(files);
  fs::resize_file(dir.path() / "model.safetensors", 20000);
  MemoryLedger ledger;
  ThreadPool pool(2);
  Exec ex;
  ex.pool = &pool;
  EXPECT_ERROR_SAYS(load_weights(ex, ledger, *files, {}), "model.safetensors", "truncated");
}

TEST(Loader, rows_that_no_staging_could_hold_are_refused) {
  constexpr int64_t kDim = int64_t{1} << 20;  // 16 rows of F32 take 64 MB
  std::string header = "{";
  uint64_t end = 0;
  const auto add = [&](const std::string& name, const std::vector<int64_t>& shape) {
    uint64_t bytes = 4;
    for (const int64_t dim : shape) bytes *= static_cast<uint64_t>(dim);
    header += fmt::format(R"({}"{}":{{"dtype":"F32","shape":{},"data_offsets":[{},{}]}})",
                          end ? "," : "", name, shape_text(shape), end, end + bytes);
    end += bytes;
  };
  add("model.embed_tokens.weight", {16, kDim});
  for (const char* name : {"input_layernorm", "post_attention_layernorm"})
    add(fmt::format("model.layers.0.{}.weight", name), {kDim});
  for (const char* name : {"q_proj", "k_proj", "v_proj"})
    add(fmt::format("model.layers.0.self_attn.{}.weight", name), {2, kDim});
  add("model.layers.0.self_attn.o_proj.weight", {kDim, 2});
  for (const char* name : {"gate_proj", "up_proj"})
    add(fmt::format("model.layers.0.mlp.{}.weight", name), {2, kDim});
  add("model.layers.0.mlp.down_proj.weight", {kDim, 2});
  add("model.norm.weight", {kDim});
  header += "}";
  const TempDir dir;
  const fs::path path = dir.write("model.safetensors", safetensors(header, ""));
  fs::resize_file(path, 8 + header.size() + end);  // all holes
  dir.write(
      "config.json",
      R"({"architectures":["LlamaForCausalLM"],"hidden_size":1048576,"intermediate_size":2,"num_hidden_layers":1,
                "num_attention_heads":1,"head_dim":2,"vocab_size":16,"tie_word_embeddings":true})");
  const Result<ModelFiles> files = open_model(dir.path());
  ASSERT_OK(files);
  MemoryLedger ledger;
  ThreadPool pool(1);
  Exec ex;
  ex.pool = &pool;
  EXPECT_ERROR_SAYS(load_weights(ex, ledger, *files, {}), "model.embed_tokens.weight",
                    "rows are too long");
}

TEST(Loader, a_directory_without_weights_says_what_was_expected) {
  const TempDir dir;
  dir.write("config.json", read_bytes(tiny("llama") / "config.json"));
  const Result<ModelFiles> files = open_model(dir.path());
  ASSERT_OK(files);
  EXPECT_ERROR_SAYS(weight_bytes(*files, {}), dir.path().string(), "model.safetensors", ".gguf");
}

TEST(DummyWeights, need_only_a_config_and_give_sane_logits) {
  const TempDir dir;
  dir.write("config.json", read_bytes(tiny("qwen2") / "config.json"));
  const auto one = Runner::open(dir.path(), {.threads = 1, .load_format = LoadFormat::kDummy});
  const auto two = Runner::open(dir.path(), {.threads = 3, .load_format = LoadFormat::kDummy});
  ASSERT_TRUE(one && two);
  EXPECT_EQ(one->weights().embedding.format, quant::Format::kBF16);
  EXPECT_NE(one->weights().layers[0].qkv.parts[0].bias, nullptr);
  const auto logits = one->run({1, 2, 3, 4, 5}, 5);
  EXPECT_EQ(logits, two->run({1, 2, 3, 4, 5}, 5)) << "the seed decides, not the threads";
  float least = 0.0f, most = 0.0f;
  for (const auto& row : logits)
    for (const float logit : row) {
      ASSERT_TRUE(std::isfinite(logit));
      least = std::min(least, logit);
      most = std::max(most, logit);
    }
  EXPECT_LT(least, -0.01f);  // not all zero
  EXPECT_GT(most, 0.01f);
  EXPECT_GT(least, -20.0f);
  EXPECT_LT(most, 20.0f);
}

TEST(DummyWeights, take_the_formats_of_a_gguf_file) {
  GgufWriter writer;
  writer.text("general.architecture", "llama")
      .u32("llama.block_count", 1)
      .u32("llama.context_length", 512);
  writer.u32("llama.embedding_length", 256)
      .u32("llama.attention.head_count", 4)
      .u32("llama.feed_forward_length", 256);
  writer.f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  const auto matrix = [&](const std::string& name, int64_t n, quant::Format format) {
    writer.tensor(name, {256, n}, quant::info(format).ggml_type,
                  std::string(static_cast<size_t>(n * quant::row_bytes(format, 256)), '\0'));
  };
  matrix("token_embd.weight", 64, quant::Format::kQ8_0);
  matrix("blk.0.attn_q.weight", 256, quant::Format::kQ4_1);
  matrix("blk.0.attn_k.weight", 256, quant::Format::kQ4_0);
  matrix("blk.0.attn_v.weight", 256, quant::Format::kQ6_K);
  const TempDir dir;  // the other tensors are absent: dummy weights do without
  const auto runner =
      Runner::open(dir.write("m.gguf", writer.bytes()), {.load_format = LoadFormat::kDummy});
  ASSERT_TRUE(runner);
  const Weights& weights = runner->weights();
  EXPECT_EQ(weights.embedding.format, quant::Format::kQ8_0);
  EXPECT_EQ(weights.layers[0].qkv.parts[0].format, quant::Format::kQ4_1);
  EXPECT_EQ(weights.layers[0].qkv.parts[1].format, quant::Format::kQ4_0);
  EXPECT_EQ(weights.layers[0].qkv.parts[2].format, quant::Format::kQ6_K);
  EXPECT_EQ(weights.layers[0].down.parts[0].format, quant::Format::kBF16);
  double squares = 0.0;
  for (const float value : row_of(weights.layers[0].qkv.parts[2], 100))
    squares += double{value} * value;
  EXPECT_NEAR(std::sqrt(squares / 256), 1.0 / 16.0, 0.02);  // 1 / sqrt(dim)
  for (const auto& row : runner->run({1, 2, 3}, 3))
    for (const float logit : row) ASSERT_LT(std::abs(logit), 20.0f);
}

}  // namespace
}  // namespace donar::model::test

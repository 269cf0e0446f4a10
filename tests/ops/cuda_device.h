// What every CUDA op test needs: an Exec with a stream and an arena, tensors in device memory
// between guards, the k-tiled layout packed and unpacked on the host. Tests derive from CudaTest;
// without a device they are skipped, or fail where DONAR_REQUIRE_CUDA is set.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ops/activation.h"
#include "quant/linear_weight.h"
#include "tensor/cuda.h"
#include "tensor/exec.h"

namespace donar {

inline uint16_t to_16_bits(DType dtype, float value) {
  return dtype == DType::kF16 ? f16(value).bits : bf16(value).bits;
}
inline float from_16_bits(DType dtype, uint16_t bits) {
  return dtype == DType::kF16 ? f16_to_f32(bits)
                              : std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}
// What is left of each value in 16 bits: what a kernel sees of a test's floats.
inline std::vector<float> rounded_to(DType dtype, std::vector<float> values) {
  if (dtype == DType::kF32) return values;
  for (float& value : values) value = from_16_bits(dtype, to_16_bits(dtype, value));
  return values;
}

// [rows, k] floats as a k-tiled activation; columns up to the next tile are zero.
inline std::vector<uint16_t> pack_tiled(DType dtype, const std::vector<float>& values, int64_t rows,
                                        int64_t k) {
  std::vector<uint16_t> tiled(static_cast<size_t>(ops::tiled_elements(rows, k)), uint16_t{0});
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < k; ++i)
      tiled[static_cast<size_t>(ops::tiled_offset(r, i, rows))] =
          to_16_bits(dtype, values[static_cast<size_t>(r * k + i)]);
  }
  return tiled;
}

// The other way; fails the test if the columns up to the next tile are not zero.
inline std::vector<float> unpack_tiled(DType dtype, const std::vector<uint16_t>& tiled,
                                       int64_t rows, int64_t k) {
  std::vector<float> values(static_cast<size_t>(rows * k));
  int64_t not_zero = 0;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < ops::num_k_tiles(k) * ops::kTileK; ++i) {
      const uint16_t bits = tiled[static_cast<size_t>(ops::tiled_offset(r, i, rows))];
      if (i < k) {
        values[static_cast<size_t>(r * k + i)] = from_16_bits(dtype, bits);
      } else {
        not_zero += bits != 0 ? 1 : 0;
      }
    }
  }
  EXPECT_EQ(not_zero, 0) << "values beyond column " << k << " of " << rows << " rows";
  return values;
}

// [n, k] floats as kTiled weights, rows up to the next tile zero. interleaved: the first n / 2 rows
// are gate, the others up.
inline std::vector<uint16_t> pack_tiled_weight(DType dtype, const std::vector<float>& values,
                                               int64_t n, int64_t k, int tile_rows,
                                               bool interleaved = false) {
  const int64_t half = n / 2;
  const int64_t packed_rows = interleaved ? (half + 7) / 8 * 16 : n;
  std::vector<uint16_t> packed(
      static_cast<size_t>(ops::tiled_weight_elements(packed_rows, k, tile_rows)), uint16_t{0});
  for (int64_t r = 0; r < n; ++r) {
    const int64_t at = interleaved ? ops::interleaved_row(r % half, r < half ? 0 : 1) : r;
    for (int64_t i = 0; i < k; ++i)
      packed[static_cast<size_t>(ops::tiled_weight_offset(at, i, k, tile_rows))] =
          to_16_bits(dtype, values[static_cast<size_t>(r * k + i)]);
  }
  return packed;
}

class CudaTest : public testing::Test {
 public:
  Exec ex;  // ex.activation: kBF16 until a test says otherwise

  const CudaDevice& device() const { return *device_; }
  MemoryLedger& ledger() { return ledger_; }

  // Tensors live until free_tensors() or the end of the test.
  TensorView upload(const std::vector<float>& values, std::initializer_list<int64_t> shape) {
    return copied(values.data(), DType::kF32, values.size(), shape);
  }
  TensorView upload(const std::vector<int32_t>& values, std::initializer_list<int64_t> shape) {
    return copied(values.data(), DType::kI32, values.size(), shape);
  }
  // `values` as raw bits of a 16-bit type.
  TensorView upload(DType dtype, const std::vector<uint16_t>& values,
                    std::initializer_list<int64_t> shape) {
    return copied(values.data(), dtype, values.size(), shape);
  }
  // Row-major, rounded to dtype (kF32, kBF16, kF16).
  TensorView upload_as(DType dtype, const std::vector<float>& values,
                       std::initializer_list<int64_t> shape) {
    if (dtype == DType::kF32) return upload(values, shape);
    std::vector<uint16_t> bits;
    for (float value : values) bits.push_back(to_16_bits(dtype, value));
    return upload(dtype, bits, shape);
  }
  // [rows, k] floats as an activation of ex.activation.
  TensorView upload_activation(const std::vector<float>& values, int64_t rows, int64_t k) {
    return upload(ex.activation, pack_tiled(ex.activation, values, rows, k),
                  {ops::num_k_tiles(k), rows, ops::kTileK});
  }
  // [n, k] floats as kTiled weights of ex.activation, bias included where there is one.
  quant::LinearWeight upload_weight(const std::vector<float>& values, int64_t n, int64_t k,
                                    int tile_rows, int splits = 1, bool interleaved = false,
                                    const std::vector<float>& bias = {}) {
    const std::vector<uint16_t> packed =
        pack_tiled_weight(ex.activation, values, n, k, tile_rows, interleaved);
    quant::LinearWeight weight;
    weight.format = ex.activation == DType::kF16 ? quant::Format::kF16 : quant::Format::kBF16;
    weight.layout = quant::Layout::kTiled;
    weight.n = n;
    weight.k = k;
    weight.data = upload(ex.activation, packed, {static_cast<int64_t>(packed.size())}).data;
    weight.tile_rows = tile_rows;
    weight.splits = splits;
    weight.interleaved = interleaved;
    if (!bias.empty()) weight.bias = upload(bias, {static_cast<int64_t>(bias.size())}).as<float>();
    return weight;
  }

  // An output that nobody wrote shows as NaN (as -1 where it is of integers).
  TensorView poisoned(DType dtype, std::initializer_list<int64_t> shape) {
    return tensor(dtype, shape);
  }
  TensorView poisoned_activation(int64_t rows, int64_t k) {
    return tensor(ex.activation, {ops::num_k_tiles(k), rows, ops::kTileK});
  }

  // Waits for the stream. Views are contiguous.
  template <class T>
  std::vector<T> download_raw(const TensorView& view) {
    std::vector<T> values(static_cast<size_t>(view.numel()));
    EXPECT_EQ(dtype_size(view.dtype), sizeof(T));
    if (!values.empty())
      cuda_copy(values.data(), view.data, values.size() * sizeof(T), stream_->handle());
    stream_->wait();
    return values;
  }
  std::vector<int32_t> download_ints(const TensorView& view) { return download_raw<int32_t>(view); }
  std::vector<float> download(const TensorView& view) {
    if (view.dtype == DType::kF32) return download_raw<float>(view);
    std::vector<float> values;
    for (uint16_t bits : download_raw<uint16_t>(view))
      values.push_back(from_16_bits(view.dtype, bits));
    return values;
  }
  // An activation as [rows, k] floats; fails the test if its tail is not zero.
  std::vector<float> download_activation(const TensorView& view, int64_t rows, int64_t k) {
    return unpack_tiled(view.dtype, download_raw<uint16_t>(view), rows, k);
  }

  // One packed row of kTiled weights in device memory (of interleaved ones: interleaved_row).
  std::vector<float> download_weight_row(const quant::LinearWeight& weight, int64_t packed_row) {
    const DType dtype = weight.format == quant::Format::kF16 ? DType::kF16 : DType::kBF16;
    const int64_t tile = packed_row / weight.tile_rows, row = packed_row % weight.tile_rows;
    const int64_t elements = ops::tiled_elements(weight.tile_rows, weight.k);
    const auto* begin = static_cast<const uint16_t*>(weight.data) + tile * elements;
    const std::vector<float> values = unpack_tiled(
        dtype, download_raw<uint16_t>(TensorView(const_cast<uint16_t*>(begin), dtype, {elements})),
        weight.tile_rows, weight.k);
    return {values.begin() + row * weight.k, values.begin() + (row + 1) * weight.k};
  }

  // Does `work` as the engine does: captured once, replayed `times` times.
  void replay(const std::function<void()>& work, int times = 1) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t instance = nullptr;
    check(cudaStreamBeginCapture(stream_->handle(), cudaStreamCaptureModeThreadLocal), "capture");
    work();
    check(cudaStreamEndCapture(stream_->handle(), &graph), "cudaStreamEndCapture");
    check(cudaGraphInstantiate(&instance, graph, 0), "cudaGraphInstantiate");
    for (int i = 0; i < times; ++i) check(cudaGraphLaunch(instance, stream_->handle()), "launch");
    stream_->wait();
    check(cudaGraphExecDestroy(instance), "cudaGraphExecDestroy");
    check(cudaGraphDestroy(graph), "cudaGraphDestroy");
  }

  void wait() { stream_->wait(); }

  // Ends the life of all tensors, after a look at what lies around them.
  void free_tensors() {
    stream_->wait();
    for (const Owned& owned : tensors_) {
      std::vector<std::byte> guards(2 * kGuard);
      cuda_copy(guards.data(), owned.buffer.data(), kGuard, stream_->handle());
      cuda_copy(guards.data() + kGuard, owned.buffer.data() + kGuard + owned.bytes, kGuard,
                stream_->handle());
      stream_->wait();
      for (size_t i = 0; i < guards.size(); ++i) {
        if (guards[i] == kPoison) continue;
        ADD_FAILURE() << "a kernel wrote " << (i < kGuard ? kGuard - i : i - kGuard + 1)
                      << " bytes " << (i < kGuard ? "before" : "after") << " a " << owned.what;
        break;
      }
    }
    tensors_.clear();
  }

 protected:
  static constexpr uint64_t kWorkspaceBytes = uint64_t{64} << 20;

  void SetUp() override {
    const Result<std::vector<CudaDevice>> devices = cuda_devices();
    if (!devices || devices->empty()) {
      const std::string reason = devices ? "there is no CUDA device" : devices.error().message;
      if (std::getenv("DONAR_REQUIRE_CUDA") != nullptr) FAIL() << reason;
      GTEST_SKIP() << reason;
    }
    const Result<CudaDevice> opened = open_cuda_device(0);
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    device_ = std::make_unique<CudaDevice>(*opened);
    stream_ = std::make_unique<CudaStream>(CudaStream::create(*device_));
    Result<Buffer> workspace = Buffer::allocate(ledger_, MemoryUse::kWorkspace, kWorkspaceBytes);
    ASSERT_TRUE(workspace.has_value()) << workspace.error().message;
    poison(workspace->data(), workspace->size());
    arena_ = std::make_unique<Arena>(std::move(*workspace));
    ex.device = DeviceType::kCuda;
    ex.arena = arena_.get();
    ex.cuda = &stream_->exec();
    ex.activation = DType::kBF16;
  }

  void TearDown() override {
    if (stream_ && !IsSkipped()) free_tensors();
  }

 private:
  // All ones: NaN in every float type, -1 in every integer type.
  static constexpr std::byte kPoison{0xff};
  static constexpr uint64_t kGuard = 1024;  // keeps the 1,024-byte alignment of swizzle atoms

  struct Owned {
    Buffer buffer;
    uint64_t bytes;
    std::string what;
  };

  static void check(cudaError_t code, const char* call) {
    if (code != cudaSuccess) throw_cuda_error(code, call);
  }

  void poison(void* data, uint64_t bytes) {
    check(cudaMemsetAsync(data, std::to_integer<int>(kPoison), bytes, stream_->handle()),
          "cudaMemsetAsync");
  }

  TensorView tensor(DType dtype, std::initializer_list<int64_t> shape) {
    TensorView view(nullptr, dtype, shape);
    const uint64_t bytes = static_cast<uint64_t>(view.numel()) * dtype_size(dtype);
    Result<Buffer> buffer = Buffer::allocate(ledger_, MemoryUse::kWorkspace, bytes + 2 * kGuard);
    if (!buffer) throw CudaError(buffer.error().message);
    poison(buffer->data(), buffer->size());
    view.data = buffer->data() + kGuard;
    std::string what = std::string(dtype_name(dtype)) + " tensor [";
    for (int64_t dim : shape) what += (what.back() == '[' ? "" : ", ") + std::to_string(dim);
    tensors_.push_back({std::move(*buffer), bytes, what + "]"});
    return view;
  }

  TensorView copied(const void* data, DType dtype, size_t count,
                    std::initializer_list<int64_t> shape) {
    const TensorView view = tensor(dtype, shape);
    EXPECT_EQ(static_cast<size_t>(view.numel()), count) << "values for a " << tensors_.back().what;
    if (count > 0) cuda_copy(view.data, data, count * dtype_size(dtype), stream_->handle());
    stream_->wait();
    return view;
  }

  MemoryLedger ledger_{0, MemorySpace::kCuda};
  std::unique_ptr<CudaDevice> device_;
  std::unique_ptr<CudaStream> stream_;
  std::unique_ptr<Arena> arena_;
  std::vector<Owned> tensors_;
};

}  // namespace donar

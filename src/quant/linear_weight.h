// One matrix in the layout that a device's linear kernel reads, and the group of matrices that
// share one input.
#pragma once

#include <array>
#include <cstdint>

#include "quant/format.h"

namespace donar::quant {

enum class Layout : uint8_t {
  kRowMajor,  // rows as stored in the file: the reference, and devices without a kernel of their
              // own
  kRows16,    // CPU: 16 output rows interleaved, so that a vector lane is an output row
              // (ops/cpu/common/rows16.h)
  kTiled,     // CUDA: runs of tile_rows rows, each k-tiled and swizzled
              // (ops/cuda/common/tiled.h)
};

// y = W x + bias. A view: the loader's buffer owns the bytes.
struct LinearWeight {
  Format format = Format::kF32;
  Layout layout = Layout::kRowMajor;
  int64_t n = 0;                // output features (rows), without padding
  int64_t k = 0;                // input features
  const void* data = nullptr;   // packed bytes: ops::packed_bytes(format, layout, n, k)
  const float* bias = nullptr;  // [n] or null

  // kTiled only, chosen by (n, k, device) (ops/linear_plan.h):
  int tile_rows = 0;         // rows of a tile; n is padded to a multiple of it with zero rows
  int splits = 1;            // runs of K that are added up separately in steps of few rows
  bool interleaved = false;  // rows of gate and up alternate in runs of 8; n counts both, so does
                             // the bias, in the packed order
};

// One to three matrices with the same k and one input: q/k/v, gate/up. Their outputs lie side by
// side in one row. Formats may differ; the input is quantized once per format class. On CUDA the
// loader has made one matrix of them: q, k, v one after the other, gate and up interleaved.
struct LinearGroup {
  std::array<LinearWeight, 3> parts{};
  int count = 0;

  int64_t k() const { return parts[0].k; }
  int64_t n() const {
    int64_t total = 0;
    for (int i = 0; i < count; ++i) total += parts[i].n;
    return total;
  }
};

}  // namespace donar::quant

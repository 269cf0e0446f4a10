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
};

// y = W x + bias. A view: the loader's buffer owns the bytes.
struct LinearWeight {
  Format format = Format::kF32;
  Layout layout = Layout::kRowMajor;
  int64_t n = 0;                // output features (rows), without padding
  int64_t k = 0;                // input features
  const void* data = nullptr;   // packed bytes: ops::packed_bytes(format, layout, n, k)
  const float* bias = nullptr;  // [n] or null
};

// One to three matrices with the same k and one input: q/k/v, gate/up. Their outputs lie side by
// side in one row. Formats may differ; the input is quantized once per format class.
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

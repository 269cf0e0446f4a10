// The form in which ops hand 16-bit (CUDA) or float (CPU) inputs of matrix products to each other.
//   CPU:  [rows, k] f32, row-major.
//   CUDA: [ceil(k / 64), rows, 64] of ex.activation, k-tiled and swizzled
//   (ops/cuda/common/tiled.h);
//         columns from k to the next multiple of 64 are zero.
#pragma once

#include "ops/cuda/common/tiled.h"
#include "tensor/exec.h"
#include "tensor/tensor_view.h"

namespace donar::ops {

inline TensorView activation_view(const Exec& ex, void* data, int64_t rows, int64_t k) {
  if (ex.on_cuda()) return {data, ex.activation, {num_k_tiles(k), rows, kTileK}};
  return {data, DType::kF32, {rows, k}};
}

inline int64_t activation_bytes(DeviceType device, int64_t rows, int64_t k) {
  return device == DeviceType::kCuda ? tiled_elements(rows, k) * 2
                                     : rows * k * static_cast<int64_t>(sizeof(float));
}

// Whether `view` is an activation of [rows, k] on this device.
inline bool is_activation(const Exec& ex, const TensorView& view, int64_t rows, int64_t k) {
  if (!ex.on_cuda())
    return view.rank == 2 && view.dtype == DType::kF32 && view.dim(0) == rows && view.dim(1) == k;
  return view.rank == 3 && view.dtype == ex.activation && view.dim(0) == num_k_tiles(k) &&
         view.dim(1) == rows && view.dim(2) == kTileK;
}

}  // namespace donar::ops

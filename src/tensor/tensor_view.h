// A view: pointer, dtype, shape. It never owns; a Buffer does. Rows may be strided, elements within
// a row are contiguous.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

#include "base/check.h"
#include "tensor/dtype.h"

namespace donar {

template <class T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::kF32;
}
template <>
constexpr DType dtype_of<f16>() {
  return DType::kF16;
}
template <>
constexpr DType dtype_of<bf16>() {
  return DType::kBF16;
}
template <>
constexpr DType dtype_of<int32_t>() {
  return DType::kI32;
}
template <>
constexpr DType dtype_of<int8_t>() {
  return DType::kI8;
}
template <>
constexpr DType dtype_of<uint8_t>() {
  return DType::kU8;
}

struct TensorView {
  static constexpr int kMaxRank = 4;

  void* data = nullptr;
  DType dtype = DType::kF32;
  int rank = 0;
  std::array<int64_t, kMaxRank> shape{};   // elements
  std::array<int64_t, kMaxRank> stride{};  // elements; stride[rank - 1] == 1

  TensorView() = default;
  TensorView(void* pointer, DType type, std::initializer_list<int64_t> dims)
      : data(pointer), dtype(type) {
    DONAR_CHECK(dims.size() <= kMaxRank);
    for (int64_t dim : dims) shape[rank++] = dim;
    int64_t step = 1;
    for (int i = rank - 1; i >= 0; --i) {
      stride[i] = step;
      step *= shape[i];
    }
  }

  int64_t dim(int i) const { return shape[i]; }
  int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= shape[i];
    return n;
  }

  template <class T>
  T* as() const {
    DONAR_CHECK(dtype == dtype_of<T>(), "dtype is {}", dtype_name(dtype));
    return static_cast<T*>(data);
  }
  template <class T>
  T* row(int64_t i) const {
    return as<T>() + i * stride[0];
  }

  // A matrix as one part of a sum: [rows, n] becomes [1, rows, n]; what has parts keeps them.
  TensorView as_parts() const {
    if (rank == 3) return *this;
    DONAR_CHECK(rank == 2, "rank {}", rank);
    TensorView view = *this;
    view.rank = 3;
    view.shape = {1, shape[0], shape[1]};
    view.stride = {shape[0] * stride[0], stride[0], stride[1]};
    return view;
  }
  // Entry i of dimension 0, which goes.
  TensorView part(int64_t i) const {
    DONAR_CHECK(rank > 1 && i >= 0 && i < shape[0], "part {} of {}", i, shape[0]);
    TensorView view = *this;
    view.data = static_cast<char*>(data) + i * stride[0] * static_cast<int64_t>(dtype_size(dtype));
    --view.rank;
    for (int d = 0; d < view.rank; ++d) {
      view.shape[d] = shape[d + 1];
      view.stride[d] = stride[d + 1];
    }
    return view;
  }

  // The first `count` rows from `begin` along dimension 0.
  TensorView rows(int64_t begin, int64_t count) const {
    DONAR_CHECK(begin >= 0 && count >= 0 && begin + count <= shape[0], "rows [{}, {}) of {}", begin,
                begin + count, shape[0]);
    TensorView view = *this;
    view.data =
        static_cast<char*>(data) + begin * stride[0] * static_cast<int64_t>(dtype_size(dtype));
    view.shape[0] = count;
    return view;
  }
  // Columns [begin, begin + count) of a matrix; rows stay strided.
  TensorView columns(int64_t begin, int64_t count) const {
    DONAR_CHECK(rank == 2 && begin >= 0 && count >= 0 && begin + count <= shape[1]);
    TensorView view = *this;
    view.data = static_cast<char*>(data) + begin * static_cast<int64_t>(dtype_size(dtype));
    view.shape[1] = count;
    return view;
  }
};

}  // namespace donar

// What every op test needs: an Exec for a forced instruction set and thread count, poisoned
// outputs, the comparison.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "ops/paged_attention.h"
#include "tensor/exec.h"

namespace donar {

// All instruction sets that this machine runs.
inline std::vector<CpuIsa> available_isas() {
  std::vector<CpuIsa> isas;
  for (CpuIsa isa : kCpuIsas) {
    if (cpu_runs(isa)) isas.push_back(isa);
  }
  return isas;
}

class Device {
 public:
  explicit Device(CpuIsa isa, int threads = 1, uint64_t workspace = uint64_t{64} << 20)
      : pool_(threads), arena_(*Buffer::allocate(ledger_, MemoryUse::kWorkspace, workspace)) {
    ex.isa = isa;
    ex.pool = &pool_;
    ex.arena = &arena_;
  }
  Exec ex;

 private:
  MemoryLedger ledger_;
  ThreadPool pool_;
  Arena arena_;
};

// An output that was never written shows as NaN.
inline std::vector<float> poisoned(int64_t count) {
  return std::vector<float>(static_cast<size_t>(count), std::numeric_limits<float>::quiet_NaN());
}

inline TensorView view(std::vector<float>& values, std::initializer_list<int64_t> shape) {
  return TensorView(values.data(), DType::kF32, shape);
}
inline TensorView view(std::vector<int32_t>& values, std::initializer_list<int64_t> shape) {
  return TensorView(values.data(), DType::kI32, shape);
}

// Collects |actual - expected| / tolerance and reports the worst element.
class Worst {
 public:
  void add(int64_t row, int64_t column, double actual, double expected, double tolerance) {
    const double error = std::fabs(actual - expected);
    const double share = std::isnan(error) ? INFINITY : error / tolerance;
    ++count_;
    if (share <= share_ && count_ > 1) return;
    share_ = share;
    row_ = row, column_ = column, actual_ = actual, expected_ = expected, tolerance_ = tolerance;
  }
  void expect_within(const std::string& what) const {
    ASSERT_GT(count_, 0) << what << ": nothing was compared";
    EXPECT_LE(share_, 1.0) << what << ": worst of " << count_ << " at [" << row_ << ", " << column_
                           << "]: actual " << actual_ << ", expected " << expected_
                           << ", tolerance " << tolerance_;
  }

 private:
  int64_t count_ = 0, row_ = 0, column_ = 0;
  double share_ = 0, actual_ = 0, expected_ = 0, tolerance_ = 0;
};

inline bool same_bits(const float* a, const float* b, int64_t count) {
  return std::memcmp(a, b, static_cast<size_t>(count) * sizeof(float)) == 0;
}

}  // namespace donar

// Kernels of cuda_bench: a read-only stream, dense matrix products without memory, random data.
#include "bench/ops/cuda_ceilings.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "ops/cuda/common/launch.cuh"
#include "ops/cuda/common/wgmma.cuh"

namespace donar::bench {
namespace {

using ops::cuda::launch;
using ops::cuda::pdl_launch_dependents;
using ops::cuda::pdl_wait;

constexpr int kReadThreads = 512;
constexpr int kReadDepth = 8;  // loads of a thread in flight

__global__ void __launch_bounds__(kReadThreads)
    read_kernel(const uint4* data, int64_t count, uint32_t* sink) {
  pdl_launch_dependents();
  pdl_wait();
  uint32_t sum = 0;
  const int64_t stripe = int64_t{kReadThreads} * kReadDepth;
  for (int64_t begin = blockIdx.x * stripe; begin < count; begin += gridDim.x * stripe) {
    uint4 v[kReadDepth];
#pragma unroll
    for (int i = 0; i < kReadDepth; ++i) {
      const int64_t at = begin + i * kReadThreads + threadIdx.x;
      v[i] = at < count ? __ldcs(data + at) : uint4{};
    }
#pragma unroll
    for (int i = 0; i < kReadDepth; ++i) sum ^= v[i].x ^ v[i].y ^ v[i].z ^ v[i].w;
  }
  // Random data does not give this value, and the compiler does not know that.
  if (sum == 0x9e3779b9u) *sink = sum;
}

__device__ __forceinline__ uint64_t mixed(uint64_t z) {  // the finalizer of splitmix64
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

// Four uniform 16-bit numbers, added: variance 1 after the scale.
__device__ __forceinline__ float bell(uint32_t seed, int64_t i) {
  const uint64_t bits = mixed((uint64_t{seed} << 40) + static_cast<uint64_t>(i) + 1);
  const float sum = static_cast<float>((bits & 0xffff) + (bits >> 16 & 0xffff) +
                                       (bits >> 32 & 0xffff) + (bits >> 48)) -
                    4 * 32767.5f;
  return sum * (1.7320508f / 65536.0f);
}

template <class T>
__global__ void fill_kernel(T* data, int64_t count, uint32_t seed, float deviation) {
  pdl_launch_dependents();
  pdl_wait();
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step)
    data[i] = static_cast<T>(bell(seed, i) * deviation);
}

constexpr int kPeakThreads = 256;
constexpr int kPeakStages = 2;
constexpr int kPeakTokens = 256;                                        // columns of a product
constexpr int kPeakStageBytes = (2 * 64 + kPeakTokens) * 128;           // A of both warpgroups, B
constexpr uint32_t kPeakShared = kPeakStages * kPeakStageBytes + 1024;  // and to align them

// Every thread's sums depend on all of its products; nobody reads what it writes.
__global__ void __launch_bounds__(kPeakThreads, 1) peak_kernel(int iterations, float* sink) {
  pdl_launch_dependents();
  pdl_wait();
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using namespace ops::cuda;
  extern __shared__ uint8_t shared[];
  const uint32_t base = (static_cast<uint32_t>(__cvta_generic_to_shared(shared)) + 1023) & ~1023u;
  auto* values = reinterpret_cast<__nv_bfloat16*>(
      shared + (base - static_cast<uint32_t>(__cvta_generic_to_shared(shared))));
  for (int i = threadIdx.x; i < kPeakStages * kPeakStageBytes / 2; i += kPeakThreads)
    values[i] = __float2bfloat16(bell(blockIdx.x, i));
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  float d[128] = {};
  const uint32_t group = threadIdx.x / 128;
  for (int i = 0; i < iterations; ++i) {
    wgmma_fence();
#pragma unroll
    for (int stage = 0; stage < kPeakStages; ++stage) {
      const uint64_t a = wgmma_descriptor(base + stage * kPeakStageBytes + group * 64 * 128);
      const uint64_t b = wgmma_descriptor(base + stage * kPeakStageBytes + 2 * 64 * 128);
#pragma unroll
      for (int k = 0; k < 4; ++k)
        wgmma<__nv_bfloat16>(d, a + wgmma_step(32 * k), b + wgmma_step(32 * k), 1);
    }
    wgmma_commit();
    wgmma_wait<0>();
  }
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 128; ++i) sum += d[i];
#else
  constexpr int kChains = 8;  // independent products of a warp
  float d[kChains][4] = {};
  uint32_t a[4], b[kChains][2];
  const auto pair = [](int i) {
    const __nv_bfloat162 two =
        __floats2bfloat162_rn(bell(threadIdx.x, i), bell(threadIdx.x, i + 1));
    return *reinterpret_cast<const uint32_t*>(&two);
  };
  for (int i = 0; i < 4; ++i) a[i] = pair(2 * i);
#pragma unroll
  for (int c = 0; c < kChains; ++c) b[c][0] = pair(8 + 4 * c), b[c][1] = pair(10 + 4 * c);
  for (int i = 0; i < iterations; ++i) {
#pragma unroll
    for (int c = 0; c < kChains; ++c) {
      asm volatile(
          "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
          "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
          : "+f"(d[c][0]), "+f"(d[c][1]), "+f"(d[c][2]), "+f"(d[c][3])
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[c][0]), "r"(b[c][1]));
    }
  }
  float sum = 0;
#pragma unroll
  for (int c = 0; c < kChains; ++c) sum += d[c][0] + d[c][1] + d[c][2] + d[c][3];
#endif
  if (sum == 1.25e-30f) *sink = sum;
}

}  // namespace

void cuda_read(const void* data, uint64_t bytes, uint32_t* sink, const CudaExec& exec) {
  // 128 KB in flight an SM: several times what latency asks for.
  launch(read_kernel, dim3(static_cast<unsigned>(exec.num_sms) * 2), dim3(kReadThreads), 0, exec,
         static_cast<const uint4*>(data), static_cast<int64_t>(bytes / 16), sink);
}

double cuda_bf16_products(int iterations, float* sink, const CudaExec& exec) {
  const bool hopper = exec.arch == 90;
  const int ctas = exec.num_sms * (hopper ? 1 : 4);
  launch<peak_kernel>(dim3(static_cast<unsigned>(ctas)), dim3(kPeakThreads),
                      hopper ? kPeakShared : 0, exec, iterations, sink);
  const double products_per_warpgroup = kPeakStages * 4 * 64.0 * kPeakTokens * 16;
  const double products_per_warp = 8 * 16.0 * 8 * 16;
  return 2.0 * ctas * iterations *
         (hopper ? 2 * products_per_warpgroup : kPeakThreads / 32 * products_per_warp);
}

void cuda_fill_random(void* data, int64_t count, RandomType type, uint32_t seed, float deviation,
                      const CudaExec& exec) {
  const dim3 grid(static_cast<unsigned>(exec.num_sms) * 8), block(256);
  switch (type) {
    case RandomType::kF32:
      return launch(fill_kernel<float>, grid, block, 0, exec, static_cast<float*>(data), count,
                    seed, deviation);
    case RandomType::kF16:
      return launch(fill_kernel<__half>, grid, block, 0, exec, static_cast<__half*>(data), count,
                    seed, deviation);
    case RandomType::kBF16:
      return launch(fill_kernel<__nv_bfloat16>, grid, block, 0, exec,
                    static_cast<__nv_bfloat16*>(data), count, seed, deviation);
  }
}

}  // namespace donar::bench

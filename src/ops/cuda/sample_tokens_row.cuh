// One row as the draw sees it: logits under mask and penalties, read four at a time; and what the
// histogram of a row says about its draw.
#pragma once

#include "ops/cuda/sample_tokens_math.cuh"

namespace donar::ops::cuda {

constexpr float kBanned = -INFINITY;

struct RowLogits {
  float* logits = nullptr;           // [vocab_size]
  const uint32_t* mask = nullptr;    // null: all tokens
  const uint16_t* counts = nullptr;  // null: no penalties
  float repetition = 1.0f;
  float presence = 0.0f;
  float frequency = 0.0f;
  bool vectors = false;  // rows begin at 16 bytes, of counts at 8, and are multiples of that

  __device__ float penalized(float logit, uint32_t count) const {
    logit = logit > 0.0f ? __fdiv_rn(logit, repetition) : __fmul_rn(logit, repetition);
    const uint32_t num_output = count & 0x7fffu;
    if (num_output > 0) {
      logit = __fsub_rn(logit, __fmul_rn(frequency, static_cast<float>(num_output)));
      logit = __fsub_rn(logit, presence);
    }
    return logit;
  }

  __device__ void load(int first, int end, float (&values)[4]) const {
    if (vectors) {
      const float4 four = *reinterpret_cast<const float4*>(logits + first);
      values[0] = four.x, values[1] = four.y, values[2] = four.z, values[3] = four.w;
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) values[i] = first + i < end ? logits[first + i] : kBanned;
    }
  }

  // Returns the bits of the values that a penalty may have changed. `first` is a multiple of 4.
  __device__ uint32_t apply_rules(int first, int end, float (&values)[4]) const {
    uint32_t counted = 0;
    if (counts != nullptr) {
      uint32_t of[4];
      if (vectors) {
        const uint2 four = *reinterpret_cast<const uint2*>(counts + first);
        of[0] = four.x & 0xffffu, of[1] = four.x >> 16, of[2] = four.y & 0xffffu,
        of[3] = four.y >> 16;
      } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) of[i] = first + i < end ? counts[first + i] : 0;
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (of[i] == 0) continue;
        values[i] = penalized(values[i], of[i]);
        counted |= 1u << i;
      }
    }
    if (mask != nullptr) {
      const uint32_t bits = mask[first / 32] >> (first % 32);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if ((bits >> i & 1) == 0) values[i] = kBanned;
      }
    }
    return counted;
  }
};

// The row before its penalties are written back (scan), or after.
__device__ __forceinline__ RowLogits row_logits(const SampleTokensParams& p, const SampleRow& row,
                                                int index, bool after_scan) {
  RowLogits result;
  result.logits = p.logits + static_cast<int64_t>(index) * p.vocab_size;
  result.vectors = p.vocab_size % 4 == 0;
  if (!p.needs.rules) return result;
  if (row.num_bans > 0 || row.num_allowed > 0) {
    result.mask = p.own_masks + static_cast<int64_t>(index) * p.mask_words;
  } else if (row.mask_row >= 0) {
    result.mask = p.masks + static_cast<int64_t>(row.mask_row) * p.mask_words;
  }
  // Logprobs need the raw logits, so that penalties are then computed in every pass.
  if (row.counts_slot >= 0 && !(after_scan && row.num_logprobs < 0)) {
    result.counts = p.token_counts + static_cast<int64_t>(row.counts_slot) * p.vocab_size;
    result.repetition = row.repetition_penalty;
    result.presence = row.presence_penalty;
    result.frequency = row.frequency_penalty;
  }
  return result;
}

// Whole tiles of a row without rules, kUnroll loads in flight; returns where they end.
template <int kThreads, int kUnroll, class Visit>
__device__ __forceinline__ int for_whole_tiles(const RowLogits& row, int begin, int end,
                                               Visit visit) {
  constexpr int kStep = kThreads * 4;
  for (; begin + kStep * kUnroll <= end; begin += kStep * kUnroll) {
    const int first = begin + static_cast<int>(threadIdx.x) * 4;
    float4 values[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u)
      values[u] = *reinterpret_cast<const float4*>(row.logits + first + u * kStep);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int id = first + u * kStep;
      visit(id, values[u].x, false);
      visit(id + 1, values[u].y, false);
      visit(id + 2, values[u].z, false);
      visit(id + 3, values[u].w, false);
    }
  }
  return begin;
}

// visit(id, value, counted) for [begin, end), spread over the CTA; begin is a multiple of 4.
// counted: a penalty may have changed the value.
template <int kThreads, int kUnroll, class Visit>
__device__ __forceinline__ void for_tokens(const RowLogits& row, int begin, int end, Visit visit) {
  if (row.vectors && row.mask == nullptr && row.counts == nullptr) {
    begin = for_whole_tiles<kThreads, kUnroll>(row, begin, end, visit);
    if constexpr (kUnroll > 2) begin = for_whole_tiles<kThreads, 2>(row, begin, end, visit);
  }
#pragma unroll 1
  for (int first = begin + static_cast<int>(threadIdx.x) * 4; first < end; first += kThreads * 4) {
    float values[4];
    row.load(first, end, values);
    const uint32_t counted = row.apply_rules(first, end, values);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (first + i < end) visit(first + i, values[i], (counted >> i & 1) != 0);
    }
  }
}

// How a row is drawn. The same in every thread.
struct Draw {
  u64 best = 0;  // its best token, ranked
  float max = 0.0f;
  float inverse_temperature = 1.0f;
  float limit = INFINITY;  // of min_p: candidates lie no further away
  bool greedy = false;
  bool listed = false;   // min_p or top_k: drawn in the order of the logits; else bucket by bucket
  bool limited = false;  // top_k

  __device__ float distance(float logit) const {
    return __fmul_rn(__fsub_rn(max, logit), inverse_temperature);
  }
  // Whether the histogram is needed.
  __device__ bool counted() const { return !greedy && (!listed || limited); }
};

template <int kThreads>
__device__ __forceinline__ Draw row_draw(const SampleTokensParams& p, const SampleRow& row,
                                         int index, u64* scratch) {
  static_assert(kThreads >= kMaxSlices);
  const int slice = static_cast<int>(threadIdx.x);
  const u64 own = slice < p.slices.count
                      ? p.slice_best[static_cast<int64_t>(index) * p.slices.count + slice]
                      : 0;
  Draw draw;
  draw.best = block_reduce<kThreads>(own, scratch, MaxOf{});
  draw.max = key_logit(ranked_key(draw.best));  // NaN if the row has no number
  draw.greedy = row.temperature < kGreedySampleTemperature || !(fabsf(draw.max) < INFINITY);
  draw.inverse_temperature = __fdiv_rn(1.0f, row.temperature);
  draw.limit = row.min_p_distance;
  draw.limited = row.top_k > 0 && row.top_k < p.num_tokens;
  draw.listed = draw.limited || row.min_p_distance < INFINITY;
  return draw;
}

// The first bucket whose tokens and those of the buckets before measure more than `target`.
__device__ __forceinline__ int bucket_at(const u64* before, u64 target) {
  int low = 0, high = kSampleBuckets;  // before[low] <= target; the answer is in [low, high)
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (before[middle] <= target) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// Which buckets decide a draw. Their tokens are listed as candidates.
struct DrawBuckets {
  // Listed rows: candidates are in [0, last].
  // Others: the nucleus ends in bucket `border` (kSampleBuckets: it is everything), and the draw
  // falls into one of [first, last], which depends on where in `border` the nucleus ends.
  int first = 0;
  int last = kSampleBuckets - 1;
  int border = kSampleBuckets;
  u64 total = 0;   // weight of the row
  u64 wanted = 0;  // weight that the nucleus has at least

  __device__ bool holds(const Draw& draw, float distance) const {
    if (!(distance < kMaxDistance && distance <= draw.limit)) return false;
    const int bucket = bucket_of(distance);
    return (bucket >= first && bucket <= last) || bucket == border;
  }
};

// Leaves in before[b] what the buckets before b measure; before[kSampleBuckets]: all of them.
template <int kThreads>
__device__ __forceinline__ DrawBuckets draw_buckets(const SampleTokensParams& p,
                                                    const SampleRow& row, int index,
                                                    const Draw& draw, u64 random, u64* before,
                                                    u64* scratch) {
  DrawBuckets result;
  if (draw.listed && draw.limit < kMaxDistance) result.last = bucket_of(draw.limit);
  if (draw.counted()) {
    constexpr int kOwn = (kSampleBuckets + kThreads - 1) / kThreads;
    static_assert(kSampleBuckets % kOwn == 0 && kSampleBuckets / kOwn < kThreads);
    const int begin = static_cast<int>(threadIdx.x) * kOwn;
    const u64* buckets = p.buckets + static_cast<int64_t>(index) * kSampleBuckets;
    u64 own[kOwn], sum = 0;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      own[i] = begin + i < kSampleBuckets ? buckets[begin + i] : 0;
      sum += own[i];
    }
    sum = block_prefix<kThreads>(sum, scratch);
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      if (begin + i <= kSampleBuckets) before[begin + i] = sum;
      sum += own[i];
    }
    __syncthreads();
  }
  if (draw.listed) {
    if (draw.limited) {
      const int last = bucket_at(before, static_cast<u64>(row.top_k) - 1);
      result.last = min(result.last, last);
    }
    return result;
  }
  result.total = before[kSampleBuckets];
  result.wanted = result.total;
  u64 most = result.total;
  if (row.top_p < 1.0f) {
    result.wanted = share_of(row.top_p, result.total);
    result.border = bucket_at(before, result.wanted - 1);
    // The token that completes the nucleus exceeds `wanted` by less than its weight.
    const u64 weight = weight_of(static_cast<float>(result.border) / kBucketsPerUnit);
    most = result.wanted + weight + (weight >> 10);
  }
  result.first = bucket_at(before, __umul64hi(random, result.wanted));
  result.last = min(bucket_at(before, __umul64hi(random, most)), result.border);
  return result;
}

}  // namespace donar::ops::cuda

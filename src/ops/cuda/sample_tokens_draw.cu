// The draw of a row, by one CTA: over the listed candidates, or over the whole row where there are
// too many. Nothing is sorted: "the token at which the weights before it pass t" is found by
// narrowing a range of order keys with histograms.
#include "ops/cuda/common/launch.cuh"
#include "ops/cuda/sample_tokens_atomics.cuh"
#include "ops/cuda/sample_tokens_row.cuh"

namespace donar::ops::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kBinBits = 10;
constexpr int kBins = 1 << kBinBits;
constexpr int kOwnBins = kBins / kThreads;

struct Shared {
  uint32_t keys[kMaxCandidates];
  uint32_t ids[kMaxCandidates];
  uint32_t low[kBins];
  uint32_t high[kBins];
  u64 before[kSampleBuckets + 1];
  u64 scratch[kThreads / 32];
  u64 found_before;
  int found_bin;
};
static_assert(sizeof(Shared) <= 48 * 1024);

// The tokens to draw from, visited by the whole CTA: visit(order key, id).
struct Listed {
  const Shared* shared;
  int count;
  template <class Visit>
  __device__ void for_each(Visit visit) const {
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads)
      visit(shared->keys[i], shared->ids[i]);
  }
};
struct WholeRow {
  RowLogits values;
  int num_tokens;
  template <class Visit>
  __device__ void for_each(Visit visit) const {
    for_tokens<kThreads, 2>(values, 0, num_tokens, [&](int id, float value, bool) {
      visit(order_key(value), static_cast<uint32_t>(id));
    });
  }
};

// Some of the tokens, in an order, with a measure.
struct Query {
  int first = 0;  // buckets
  int last = kSampleBuckets - 1;
  bool weighed = true;    // the measure is the weight; else 1
  bool by_id = false;     // rising ids; else falling logits
  uint32_t only_key = 0;  // other than 0: tokens with this order key only

  // 0: not one of them.
  __device__ u64 measure(const Draw& draw, uint32_t key) const {
    const float distance = draw.distance(key_logit(key));
    if (!(distance < kMaxDistance && distance <= draw.limit)) return 0;
    const int bucket = bucket_of(distance);
    if (bucket < first || bucket > last || (only_key != 0 && key != only_key)) return 0;
    return weighed ? weight_of(distance) : 1;
  }
};

// Keys that a query's order can have.
struct KeyRange {
  uint32_t low = 0;
  uint32_t high = 0;
};

struct Found {
  uint32_t key = 0;  // of the order: ~id if by_id
  u64 before = 0;    // what the tokens with larger keys measure
};

// The key at which the measures of the tokens before it pass `target`, which is less than all of
// them together.
template <class Tokens>
__device__ __noinline__ Found find(Shared& s, const Tokens& tokens, const Draw& draw,
                                   const Query& query, u64 target, KeyRange range) {
  const WideBins bins(s.low, s.high);
  u64 before = 0;
  for (;;) {
    const int shift = max(0, 32 - __clz(static_cast<int>(range.high - range.low)) - kBinBits);
#pragma unroll
    for (int i = 0; i < kOwnBins; ++i) {
      s.low[i * kThreads + threadIdx.x] = 0;
      s.high[i * kThreads + threadIdx.x] = 0;
    }
    if (threadIdx.x == 0) {
      s.found_bin = 0;
      s.found_before = 0;
    }
    __syncthreads();
    tokens.for_each([&](uint32_t key, uint32_t id) {
      const uint32_t place = query.by_id ? ~id : key;
      if (place < range.low || place > range.high) return;
      const u64 measure = query.measure(draw, key);
      const uint32_t bin = (range.high - place) >> shift;
      if (measure != 0) bins.add(static_cast<int>(bin), measure);
    });
    __syncthreads();
    const int begin = static_cast<int>(threadIdx.x) * kOwnBins;
    u64 own[kOwnBins], sum = 0;
#pragma unroll
    for (int i = 0; i < kOwnBins; ++i) {
      own[i] = u64{s.high[begin + i]} << 32 | s.low[begin + i];
      sum += own[i];
    }
    sum = before + block_prefix<kThreads>(sum, s.scratch);
#pragma unroll
    for (int i = 0; i < kOwnBins; ++i) {
      if (sum <= target && target < sum + own[i]) {  // of one bin only
        s.found_bin = begin + i;
        s.found_before = sum;
      }
      sum += own[i];
    }
    __syncthreads();
    before = s.found_before;
    range.high -= static_cast<uint32_t>(s.found_bin) << shift;
    __syncthreads();  // found_* are read before they are set again, here or in the next search
    if (shift == 0) return {range.high, before};
    range.low = range.high - min(range.high - range.low, (1u << shift) - 1);
  }
}

struct Totals {
  u64 count = 0;
  u64 weight = 0;
};

// Of the tokens with keys above `key`.
template <class Tokens>
__device__ __noinline__ Totals totals_above(Shared& s, const Tokens& tokens, const Draw& draw,
                                            const Query& query, uint32_t key) {
  Totals totals;
  tokens.for_each([&](uint32_t other, uint32_t) {
    if (other <= key) return;
    Query count = query;
    count.weighed = false;
    if (count.measure(draw, other) == 0) return;
    ++totals.count;
    totals.weight += weight_of(draw.distance(key_logit(other)));
  });
  totals.count = block_reduce<kThreads>(totals.count, s.scratch, SumOf{});
  totals.weight = block_reduce<kThreads>(totals.weight, s.scratch, SumOf{});
  return totals;
}

template <class Tokens>
struct Drawer {
  Shared& s;
  const Tokens& tokens;
  const SampleTokensParams& p;
  const SampleRow& row;
  const Draw& draw;
  const u64 random;
  KeyRange keys;

  // Draws and returns an id, in all threads.
  __device__ int run(const DrawBuckets& buckets) {
    keys = key_range(buckets);
    return draw.listed ? run_listed(buckets) : run_buckets(buckets);
  }

  __device__ KeyRange key_range(const DrawBuckets& buckets) {
    u64 low = 0xffffffffu, high = 0;
    tokens.for_each([&](uint32_t key, uint32_t) {
      if (!buckets.holds(draw, draw.distance(key_logit(key)))) return;
      low = min(low, u64{key});
      high = max(high, u64{key});
    });
    low = block_reduce<kThreads>(low, s.scratch, MinOf{});
    high = block_reduce<kThreads>(high, s.scratch, MaxOf{});
    return {static_cast<uint32_t>(low), static_cast<uint32_t>(high)};
  }

  // In the order of the logits: min_p, top_k, top_p, and a draw from what they left.
  __device__ int run_listed(const DrawBuckets& buckets) {
    const Query query{.last = buckets.last};
    const Totals all = totals_above(s, tokens, draw, query, /*key=*/0);
    u64 total = all.weight;
    const u64 top_k = static_cast<u64>(row.top_k);
    if (draw.limited && all.count > top_k) {
      Query count = query;
      count.weighed = false;
      const Found last = find(s, tokens, draw, count, top_k - 1, keys);
      total = totals_above(s, tokens, draw, query, last.key).weight +
              (top_k - last.before) * key_weight(last.key);
    }
    const u64 kept = row.top_p < 1.0f ? kept_by(query, share_of(row.top_p, total)) : total;
    return token_at(query, __umul64hi(random, kept));
  }

  // Bucket by bucket: the nucleus is all of the buckets before the border, and the beginning of
  // that one in the order of the logits. Other buckets are drawn from in the order of ids.
  __device__ int run_buckets(const DrawBuckets& buckets) {
    u64 total = buckets.total;
    if (buckets.border < kSampleBuckets) {
      const u64 before = s.before[buckets.border];
      total = before +
              kept_by({.first = buckets.border, .last = buckets.border}, buckets.wanted - before);
    }
    const u64 target = __umul64hi(random, total);
    const int bucket = min(bucket_at(s.before, target), buckets.border);
    const u64 rest = target - s.before[bucket];
    Query query{.first = bucket, .last = bucket};
    if (bucket == buckets.border) return token_at(query, rest);
    query.by_id = true;
    return static_cast<int>(~find(s, tokens, draw, query, rest, id_range()).key);
  }

  __device__ u64 key_weight(uint32_t key) const { return weight_of(draw.distance(key_logit(key))); }
  __device__ KeyRange id_range() const {
    return {~static_cast<uint32_t>(p.num_tokens - 1), ~uint32_t{0}};
  }

  // What the shortest beginning with at least `wanted` weighs.
  __device__ u64 kept_by(const Query& query, u64 wanted) {
    const Found last = find(s, tokens, draw, query, wanted - 1, keys);
    const u64 weight = key_weight(last.key);
    return last.before + ((wanted - 1 - last.before) / weight + 1) * weight;
  }

  // The token at which the weights pass `target`; tokens of equal logits follow each other by id.
  __device__ int token_at(const Query& query, u64 target) {
    const Found found = find(s, tokens, draw, query, target, keys);
    Query equals = query;
    equals.weighed = false;
    equals.by_id = true;
    equals.only_key = found.key;
    const u64 place = (target - found.before) / key_weight(found.key);
    return static_cast<int>(~find(s, tokens, draw, equals, place, id_range()).key);
  }
};

template <class Tokens>
__device__ int draw_token(Shared& s, const Tokens& tokens, const SampleTokensParams& p,
                          const SampleRow& row, const Draw& draw, const DrawBuckets& buckets,
                          u64 random) {
  return Drawer<Tokens>{s, tokens, p, row, draw, random, {}}.run(buckets);
}

// Grid (rows).
__global__ void __launch_bounds__(kThreads) draw_rows(SampleTokensParams p) {
  pdl_launch_dependents();
  pdl_wait();
  __shared__ Shared s;
  const int index = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  const SampleRow row = p.rows[index];
  if (row.kind != SampleKind::kDraw) {
    if (row.kind == SampleKind::kPromptLogprobs && thread == 0) p.ids[index] = row.target;
    return;
  }
  const Draw draw = row_draw<kThreads>(p, row, index, s.scratch);
  int id = best_id_of(draw.best);
  if (!draw.greedy) {
    const u64 random = random_bits(row.seed, row.position);
    const DrawBuckets buckets =
        draw_buckets<kThreads>(p, row, index, draw, random, s.before, s.scratch);
    const uint32_t count = p.num_candidates[index];
    if (count <= kMaxCandidates) {
      const Candidate* candidates = p.candidates + static_cast<int64_t>(index) * kMaxCandidates;
      for (int i = thread; i < static_cast<int>(count); i += kThreads) {
        const Candidate candidate = candidates[i];
        s.keys[i] = candidate.key;
        s.ids[i] = candidate.id;
      }
      __syncthreads();
      id = draw_token(s, Listed{&s, static_cast<int>(count)}, p, row, draw, buckets, random);
    } else {
      const WholeRow tokens{row_logits(p, row, index, /*after_scan=*/true), p.num_tokens};
      id = draw_token(s, tokens, p, row, draw, buckets, random);
    }
  } else if (draw.max == kBanned && row.num_allowed > 0) {
    // The rules together ban everything: the allowed list wins.
    u64 lowest = ~u64{0};
    for (int i = thread; i < row.num_allowed; i += kThreads) {
      const u64 token = static_cast<u64>(p.allowed[row.allowed_begin + i]);
      lowest = min(lowest, token);
    }
    id = static_cast<int>(block_reduce<kThreads>(lowest, s.scratch, MinOf{}));
  }
  if (thread != 0) return;
  p.ids[index] = id;
  if (row.slot >= 0) p.last_tokens[row.slot] = id;
  if (p.needs.rules && row.counts_slot >= 0) {
    uint16_t& count = p.token_counts[static_cast<int64_t>(row.counts_slot) * p.vocab_size + id];
    if ((count & 0x7fffu) < 0x7fffu) ++count;
  }
}

}  // namespace

void launch_draw(const SampleTokensParams& params, const CudaExec& exec) {
  launch(draw_rows, dim3(static_cast<unsigned>(params.num_rows)), dim3(kThreads), 0, exec, params);
}

}  // namespace donar::ops::cuda

// Tokens fall into buckets by their distance from the best logit in units of the temperature.
// Counts and weights per bucket tell which bucket a limit or a draw falls into, so that only one
// bucket's tokens are ever listed, or sorted.
#include "engine/draw.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "engine/row_math.h"

namespace donar::engine {
namespace {

constexpr float kUnit = 1099511627776.0f;  // 2^40, the weight of the best token
constexpr float kMaxDistance = 28.0f;      // e^-28 < 2^-40: beyond, a token's weight is 0
constexpr float kBucketsPerUnit = 16.0f;
constexpr int kNumBuckets = 28 * 16;
constexpr size_t kChunk = 512;  // logits whose distances and weights are computed at once

uint64_t weight_of(float distance) {
  return static_cast<uint64_t>(static_cast<int64_t>(exp_negative(distance) * kUnit));
}
int bucket_of(float distance) { return static_cast<int>(distance * kBucketsPerUnit); }

// The row of one draw: a token's distance is >= 0, falls as its logit rises, and is infinite for
// banned tokens.
struct Row {
  std::span<const float> logits;
  float max = 0.0f;
  float inverse_temperature = 1.0f;

  float distance(int32_t id) const {
    return (max - logits[static_cast<size_t>(id)]) * inverse_temperature;
  }

  // Falling logit, ties by rising id.
  void sort(std::span<int32_t> ids) const {
    std::ranges::sort(ids, [&](int32_t a, int32_t b) { return comes_before(a, b); });
  }
  bool comes_before(int32_t a, int32_t b) const {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  }

  // visit(first id, distances) for all logits, a chunk at a time.
  template <class Visit>
  void for_chunks(Visit visit) const {
    std::array<float, kChunk> distances;
    for (size_t begin = 0; begin < logits.size(); begin += kChunk) {
      const size_t count = std::min(kChunk, logits.size() - begin);
      for (size_t i = 0; i < count; ++i)
        distances[i] = (max - logits[begin + i]) * inverse_temperature;
      visit(static_cast<int32_t>(begin), std::span<const float>(distances).first(count));
    }
  }

  // Ids whose bucket lies in [first, last], in rising order.
  std::span<int32_t> list_buckets(int first, int last, std::span<int32_t> scratch) const {
    size_t size = 0;
    const float end = std::min(static_cast<float>(last + 1) / kBucketsPerUnit, kMaxDistance);
    const float begin = static_cast<float>(first) / kBucketsPerUnit;  // exact: a power of two
    for_chunks([&](int32_t id, std::span<const float> distances) {
      for (float distance : distances) {
        scratch[size] = id++;
        size += distance >= begin && distance < end ? 1 : 0;
      }
    });
    return scratch.first(size);
  }
};

// A number in [0, total) from 64 uniform bits.
uint64_t scale(uint64_t random, uint64_t total) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>((static_cast<Wide>(random) * total) >> 64);
}

// The share of `total` that top_p asks for, at least 1.
uint64_t share(float top_p, uint64_t total) {
  if (top_p >= 1.0f) return total;
  const auto wanted =
      static_cast<uint64_t>(std::ceil(static_cast<double>(top_p) * static_cast<double>(total)));
  return std::clamp<uint64_t>(wanted, 1, total);
}

// Walks `ids` until their weights pass `target`.
int32_t walk(const Row& row, std::span<const int32_t> ids, uint64_t target) {
  for (int32_t id : ids) {
    const uint64_t weight = weight_of(row.distance(id));
    if (target < weight) return id;
    target -= weight;
  }
  DONAR_CHECK(false, "a draw ran past {} candidates", ids.size());
  return 0;
}

// The shortest beginning of sorted `ids` that weighs at least `wanted`; its weight goes to `kept`.
std::span<const int32_t> take_share(const Row& row, std::span<const int32_t> ids, uint64_t wanted,
                                    uint64_t& kept) {
  kept = 0;
  size_t size = 0;
  while (size < ids.size() && kept < wanted) kept += weight_of(row.distance(ids[size++]));
  return ids.first(size);
}

// With min_p or top_k few candidates remain, so they are listed and sorted.
int32_t draw_from_list(const Row& row, const SamplingParams& params, uint64_t random,
                       std::span<int32_t> scratch) {
  const size_t top_k = params.top_k > 0 ? static_cast<size_t>(params.top_k) : row.logits.size();
  const float limit = params.min_p > 0.0f
                          ? static_cast<float>(-std::log(static_cast<double>(params.min_p)))
                          : std::numeric_limits<float>::infinity();
  int last = limit < kMaxDistance ? bucket_of(limit) : kNumBuckets - 1;
  if (params.top_k > 0) {
    std::array<uint32_t, kNumBuckets> counts{};
    row.for_chunks([&](int32_t, std::span<const float> distances) {
      for (float distance : distances) {
        if (distance < kMaxDistance) ++counts[static_cast<size_t>(bucket_of(distance))];
      }
    });
    size_t count = 0;
    for (int bucket = 0; bucket <= last; ++bucket) {
      count += counts[static_cast<size_t>(bucket)];
      if (count >= top_k) last = bucket;
    }
  }
  std::span<int32_t> ids = row.list_buckets(0, last, scratch);
  const auto end =
      std::remove_if(ids.begin(), ids.end(), [&](int32_t id) { return row.distance(id) > limit; });
  ids = ids.first(static_cast<size_t>(end - ids.begin()));
  if (ids.size() > top_k) {
    std::ranges::nth_element(ids, ids.begin() + static_cast<std::ptrdiff_t>(top_k),
                             [&](int32_t a, int32_t b) { return row.comes_before(a, b); });
    ids = ids.first(top_k);
  }
  row.sort(ids);
  uint64_t total = 0;
  for (int32_t id : ids) total += weight_of(row.distance(id));
  uint64_t kept = 0;
  const std::span<const int32_t> nucleus = take_share(row, ids, share(params.top_p, total), kept);
  return walk(row, nucleus, scale(random, kept));
}

// Over the whole row: the weights of buckets say which one the end of the nucleus and the draw fall
// into.
int32_t draw_from_buckets(const Row& row, const SamplingParams& params, uint64_t random,
                          std::span<int32_t> scratch) {
  std::array<uint64_t, kNumBuckets> weights{};
  row.for_chunks([&](int32_t, std::span<const float> distances) {
    std::array<float, kChunk> chunk_weights;
    for (size_t i = 0; i < distances.size(); ++i)
      chunk_weights[i] = exp_negative(distances[i]) * kUnit;
    for (size_t i = 0; i < distances.size(); ++i) {
      if (distances[i] < kMaxDistance) {
        weights[static_cast<size_t>(bucket_of(distances[i]))] +=
            static_cast<uint64_t>(static_cast<int64_t>(chunk_weights[i]));
      }
    }
  });
  uint64_t total = 0;
  for (uint64_t weight : weights) total += weight;

  // The nucleus: all of the buckets before `border`, and the beginning of that one.
  int border = kNumBuckets;
  std::span<const int32_t> border_ids;
  if (params.top_p < 1.0f) {
    const uint64_t wanted = share(params.top_p, total);
    uint64_t before = 0;
    for (border = 0; before + weights[static_cast<size_t>(border)] < wanted; ++border) {
      before += weights[static_cast<size_t>(border)];
    }
    const std::span<int32_t> ids = row.list_buckets(border, border, scratch);
    row.sort(ids);
    uint64_t kept = 0;
    border_ids = take_share(row, ids, wanted - before, kept);
    total = before + kept;
  }

  uint64_t target = scale(random, total);
  int bucket = 0;
  while (bucket < border && target >= weights[static_cast<size_t>(bucket)]) {
    target -= weights[static_cast<size_t>(bucket++)];
  }
  return walk(row, bucket == border ? border_ids : row.list_buckets(bucket, bucket, scratch),
              target);
}

}  // namespace

int32_t draw_token(std::span<const float> logits, const SamplingParams& params, uint64_t random,
                   std::span<int32_t> scratch) {
  DONAR_CHECK(scratch.size() >= logits.size());
  const float max = max_value(logits);
  if (params.temperature < kGreedyTemperature || !std::isfinite(max)) return argmax(logits);
  const Row row{logits, max, 1.0f / params.temperature};
  const bool has_top_k = params.top_k > 0 && static_cast<size_t>(params.top_k) < logits.size();
  return has_top_k || params.min_p > 0.0f ? draw_from_list(row, params, random, scratch)
                                          : draw_from_buckets(row, params, random, scratch);
}

}  // namespace donar::engine

// Launchers of the sampler's kernels: what ops/sample_tokens.cpp hands to them, and how a row is
// cut into slices for several CTAs.
#pragma once

#include <cstdint>

#include "ops/sample_tokens.h"
#include "tensor/cuda_exec.h"

namespace donar::ops::cuda {

// Tokens fall into buckets by their distance from the best logit in units of the temperature, as on
// the CPU.
inline constexpr int kSampleBuckets = 28 * 16;
// Tokens of the buckets that decide a draw. A row with more of them is read again instead.
inline constexpr int kMaxCandidates = 4096;
inline constexpr int kMaxSlices = 64;

struct Candidate {
  uint32_t key = 0;  // order_key of its logit under the rules
  uint32_t id = 0;
};

// A row's tokens are cut into `count` slices of `tokens` (the last one is shorter).
struct SampleSlices {
  int count = 1;
  int tokens = 0;
};
// Enough slices to fill the device, whole words of a mask, and none without tokens. Results do not
// depend on the cut.
constexpr SampleSlices sample_slices(int64_t num_rows, int64_t num_tokens, int num_sms) {
  constexpr int64_t kUnit = 1024;
  const int64_t wanted = 4 * static_cast<int64_t>(num_sms) / (num_rows > 0 ? num_rows : 1);
  const int64_t most = wanted < 1 ? 1 : wanted > kMaxSlices ? kMaxSlices : wanted;
  const int64_t units = (num_tokens + kUnit - 1) / kUnit;
  const int64_t tokens = (units + most - 1) / most * kUnit;
  return {static_cast<int>((num_tokens + tokens - 1) / tokens), static_cast<int>(tokens)};
}

struct SampleTokensParams {
  float* logits = nullptr;  // [num_rows, vocab_size]
  int num_rows = 0;
  int vocab_size = 0;
  int num_tokens = 0;
  int mask_words = 0;
  SampleSlices slices;
  SampleNeeds needs;

  const SampleRow* rows = nullptr;  // [num_rows]
  const TokenBias* bias = nullptr;
  const TokenBan* bans = nullptr;
  const int32_t* allowed = nullptr;
  const uint32_t* masks = nullptr;

  int32_t* last_tokens = nullptr;
  uint16_t* token_counts = nullptr;  // [slots, vocab_size]
  uint32_t* arrivals = nullptr;      // [num_rows] zero between launches

  // Scratch of this launch:
  unsigned long long* slice_best = nullptr;  // [num_rows, slices] ranked best token of a slice
  unsigned long long* buckets = nullptr;     // [num_rows, kSampleBuckets] weight, or count
  uint32_t* num_candidates = nullptr;        // [num_rows]
  Candidate* candidates = nullptr;           // [num_rows, kMaxCandidates] in no order
  uint32_t* own_masks = nullptr;             // [num_rows, mask_words] of rows with bans or a list
  float* raw_bias = nullptr;                 // [max_bias] logits before their bias

  int32_t* ids = nullptr;              // [num_rows], out
  SampleLogprobs* logprobs = nullptr;  // [logprobs indices], out
};

void sample_tokens(const SampleTokensParams& params, const CudaExec& exec);

// Its parts with kernels of their own files.
void launch_draw(const SampleTokensParams& params, const CudaExec& exec);
void launch_logprobs(const SampleTokensParams& params, const CudaExec& exec);

struct TokenCountsParams {
  uint16_t* counts = nullptr;       // [vocab_size] of one slot
  const int32_t* tokens = nullptr;  // [count]
  int64_t count = 0;
  int vocab_size = 0;
  bool is_output = false;
};
void add_token_counts(const TokenCountsParams& params, const CudaExec& exec);

}  // namespace donar::ops::cuda

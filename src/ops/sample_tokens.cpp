#include "ops/sample_tokens.h"

#include <cmath>

#include "base/check.h"
#include "ops/cuda/sample_tokens.h"
#include "ops/cuda_limits.h"
#include "tensor/cuda.h"
#include "tensor/exec.h"

namespace donar::ops {
namespace {

constexpr uint64_t round_up(uint64_t bytes) {
  return (bytes + Arena::kAlignment - 1) & ~(Arena::kAlignment - 1);
}

// Where the parts of a state lie, and where it ends.
struct StateLayout {
  uint64_t last_tokens = 0;
  uint64_t arrivals = 0;
  uint64_t token_counts = 0;
  uint64_t end = 0;
};

StateLayout state_layout(int64_t vocab_size, int64_t num_slots, int64_t num_counts_slots,
                         int64_t max_rows) {
  DONAR_CHECK(vocab_size > 0 && num_slots >= 0 && num_counts_slots >= 0 && max_rows > 0);
  StateLayout layout;
  layout.arrivals = round_up(static_cast<uint64_t>(num_slots) * sizeof(int32_t));
  layout.token_counts =
      layout.arrivals + round_up(static_cast<uint64_t>(max_rows) * sizeof(uint32_t));
  layout.end = layout.token_counts +
               round_up(static_cast<uint64_t>(num_counts_slots * vocab_size) * sizeof(uint16_t));
  return layout;
}

bool is_aligned(const void* pointer, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

}  // namespace

float min_p_distance(float min_p) {
  return min_p > 0.0f ? static_cast<float>(-std::log(static_cast<double>(min_p)))
                      : SampleRow::kNoMinP;
}

int64_t sample_mask_words(int64_t vocab_size) { return (vocab_size + 31) / 32; }

SampleNeeds sample_needs(std::span<const SampleRow> rows) {
  SampleNeeds needs;
  for (const SampleRow& row : rows) {
    if (row.kind == SampleKind::kSkip) continue;
    needs.logprobs |= row.num_logprobs >= 0;
    if (row.kind != SampleKind::kDraw) continue;
    needs.rules |= row.counts_slot >= 0 || row.num_bias > 0 || row.num_bans > 0 ||
                   row.num_allowed > 0 || row.mask_row >= 0;
    needs.draws |= row.temperature >= kGreedySampleTemperature;
  }
  return needs;
}

uint64_t sample_state_bytes(int64_t vocab_size, int64_t num_slots, int64_t num_counts_slots,
                            int64_t max_rows) {
  return state_layout(vocab_size, num_slots, num_counts_slots, max_rows).end;
}

SampleState sample_state(void* device_memory, int64_t vocab_size, int64_t num_slots,
                         int64_t num_counts_slots, int64_t max_rows) {
  const StateLayout layout = state_layout(vocab_size, num_slots, num_counts_slots, max_rows);
  char* const base = static_cast<char*>(device_memory);
  SampleState state;
  state.vocab_size = vocab_size;
  state.num_slots = num_slots;
  state.num_counts_slots = num_counts_slots;
  state.max_rows = max_rows;
  state.last_tokens = reinterpret_cast<int32_t*>(base + layout.last_tokens);
  state.arrivals = reinterpret_cast<uint32_t*>(base + layout.arrivals);
  if (num_counts_slots > 0)
    state.token_counts = reinterpret_cast<uint16_t*>(base + layout.token_counts);
  return state;
}

uint64_t sample_workspace_bytes(int64_t num_rows, int64_t vocab_size, int64_t max_bias) {
  const auto rows = static_cast<uint64_t>(num_rows);
  return round_up(rows * cuda::kMaxSlices * sizeof(uint64_t)) +
         round_up(rows * cuda::kSampleBuckets * sizeof(uint64_t)) +
         round_up(rows * sizeof(uint32_t)) +
         round_up(rows * cuda::kMaxCandidates * sizeof(cuda::Candidate)) +
         round_up(rows * static_cast<uint64_t>(sample_mask_words(vocab_size)) * sizeof(uint32_t)) +
         round_up(static_cast<uint64_t>(max_bias) * sizeof(float)) + Arena::kAlignment;
}

void sample_tokens(Exec& ex, float* logits, const SampleBatch& batch, const SampleState& state,
                   int32_t* ids, SampleLogprobs* logprobs) {
  DONAR_CHECK(ex.on_cuda(), "the CPU has a sampler of its own");
  DONAR_CHECK(batch.num_rows >= 0 && batch.num_rows <= state.max_rows, "{} rows, at most {}",
              batch.num_rows, state.max_rows);
  DONAR_CHECK(batch.num_tokens > 0 && batch.num_tokens <= state.vocab_size,
              "{} tokens in rows of {}", batch.num_tokens, state.vocab_size);
  DONAR_CHECK(state.vocab_size <= kCudaMaxVocab, "vocabulary of {}", state.vocab_size);
  DONAR_CHECK(!batch.needs.logprobs || logprobs != nullptr, "logprobs have no place to go");
  DONAR_CHECK(state.vocab_size % 4 != 0 || is_aligned(logits, 16), "logits are not aligned");
  if (batch.num_rows == 0) return;
  if constexpr (kCuda) {
    const int64_t mask_words = sample_mask_words(state.vocab_size);
    const Arena::Scope scope(*ex.arena);
    cuda::SampleTokensParams params;
    params.logits = logits;
    params.num_rows = static_cast<int>(batch.num_rows);
    params.vocab_size = static_cast<int>(state.vocab_size);
    params.num_tokens = static_cast<int>(batch.num_tokens);
    params.mask_words = static_cast<int>(mask_words);
    params.slices = cuda::sample_slices(batch.num_rows, batch.num_tokens, ex.cuda->num_sms);
    params.needs = batch.needs;
    params.rows = batch.rows;
    params.bias = batch.bias;
    params.bans = batch.bans;
    params.allowed = batch.allowed;
    params.masks = batch.masks;
    params.last_tokens = state.last_tokens;
    params.token_counts = state.token_counts;
    params.arrivals = state.arrivals;
    params.slice_best = ex.arena->take<unsigned long long>(batch.num_rows * params.slices.count);
    if (batch.needs.draws) {
      params.buckets = ex.arena->take<unsigned long long>(batch.num_rows * cuda::kSampleBuckets);
      params.num_candidates = ex.arena->take<uint32_t>(batch.num_rows);
      params.candidates = ex.arena->take<cuda::Candidate>(batch.num_rows * cuda::kMaxCandidates);
    }
    if (batch.needs.rules) {
      params.own_masks = ex.arena->take<uint32_t>(batch.num_rows * mask_words);
      params.raw_bias = ex.arena->take<float>(batch.max_bias);
    }
    params.ids = ids;
    params.logprobs = logprobs;
    cuda::sample_tokens(params, *ex.cuda);
  }
}

void clear_token_counts(Exec& ex, const SampleState& state, int64_t counts_slot) {
  DONAR_CHECK(ex.on_cuda() && counts_slot >= 0 && counts_slot < state.num_counts_slots,
              "slot {} of {}", counts_slot, state.num_counts_slots);
  if constexpr (kCuda) {
    cuda_fill_zero(state.token_counts + counts_slot * state.vocab_size,
                   static_cast<uint64_t>(state.vocab_size) * sizeof(uint16_t), ex.cuda->stream);
  }
}

void add_token_counts(Exec& ex, const SampleState& state, int64_t counts_slot,
                      const int32_t* tokens, int64_t count, bool is_output) {
  DONAR_CHECK(ex.on_cuda() && counts_slot >= 0 && counts_slot < state.num_counts_slots,
              "slot {} of {}", counts_slot, state.num_counts_slots);
  if (count == 0) return;
  if constexpr (kCuda) {
    cuda::add_token_counts({.counts = state.token_counts + counts_slot * state.vocab_size,
                            .tokens = tokens,
                            .count = count,
                            .vocab_size = static_cast<int>(state.vocab_size),
                            .is_output = is_output},
                           *ex.cuda);
  }
}

}  // namespace donar::ops

// From rows of logits to token ids and logprobs on a CUDA device: the same rules, sums and ties as
// the CPU's sampler (engine/sampler.h), so the same ids. The host describes every row in a
// SampleRow, which travels with the step's copy; ids stay on the device. Plain data only: nvcc
// reads this header too.
#pragma once

#include <cstdint>
#include <limits>
#include <span>

namespace donar {
struct Exec;
}

namespace donar::ops {

inline constexpr int kMaxSampleLogprobs = 20;
inline constexpr float kGreedySampleTemperature = 1e-5f;  // below: greedy

enum class SampleKind : int32_t {
  kSkip = 0,            // padding: nothing is read or written
  kDraw = 1,            // a token is drawn
  kPromptLogprobs = 2,  // nothing is drawn: the logprobs of `target` are wanted
};

// One token's bias, added to its logit unless that is -infinity.
struct TokenBias {
  int32_t token = 0;
  float bias = 0.0f;
};

// A token that cannot be drawn: an end or stop token while min_tokens is not reached, or the last
// token of a bad word whose beginning is there. Of a bad word whose beginning ends with the token
// in flight, which only the device knows, the host compares the tokens before that one.
struct TokenBan {
  int32_t token = 0;
  int32_t after = -1;  // holds only if last_tokens[slot] is this token before the draw; -1: always
};

// What one row of logits is wanted for. A zeroed row is padding. The begins are indices into the
// side arrays of SampleBatch. Tokens beyond the row are ignored.
struct SampleRow {
  SampleKind kind = SampleKind::kSkip;
  int32_t slot = -1;         // last_tokens[slot] gets the drawn id; -1: no next step reads it
  int32_t counts_slot = -1;  // penalties: whose token counts hold, and count the drawn id; -1: none
  int32_t target = -1;       // kPromptLogprobs: the prompt token that follows

  uint64_t seed = 0;      // the request's seed + choice
  uint64_t position = 0;  // tokens before the one that is drawn, prompt included

  float temperature = 1.0f;        // < kGreedySampleTemperature: the best
  float top_p = 1.0f;              // (0, 1]; 1: off
  float min_p_distance = kNoMinP;  // min_p_distance(min_p)
  int32_t top_k = 0;               // 0: off

  float repetition_penalty = 1.0f;  // over prompt and output
  float presence_penalty = 0.0f;    // over the output
  float frequency_penalty = 0.0f;   // over the output, per occurrence
  int32_t num_logprobs = -1;        // -1: none; else the chosen token's and this many best ones'

  int32_t logprobs_index = -1;  // which SampleLogprobs gets them
  int32_t bias_begin = 0;       // no token twice within a row
  int32_t num_bias = 0;
  int32_t bans_begin = 0;

  int32_t num_bans = 0;
  int32_t allowed_begin = 0;
  int32_t num_allowed = 0;  // 0: all
  int32_t mask_row = -1;    // row of `masks`, whose clear bits are tokens that cannot be drawn

  static constexpr float kNoMinP = std::numeric_limits<float>::infinity();
};
static_assert(sizeof(SampleRow) == 96);

// The distance from the best logit, in units of the temperature, beyond which min_p drops a token.
float min_p_distance(float min_p);

// Raw log-probabilities, before every rule. Written for rows with num_logprobs >= 0.
struct SampleLogprobs {
  int32_t token = 0;                             // the chosen one: drawn, or the row's target
  float logprob = 0.0f;                          // its own
  int32_t rank = 0;                              // tokens at least as likely
  int32_t num_best = 0;                          // min(num_logprobs, tokens that are numbers)
  int32_t best_tokens[kMaxSampleLogprobs] = {};  // falling, ties to the lowest id
  float best_logprobs[kMaxSampleLogprobs] = {};
};

// Which kernels a batch needs; part of the key of a captured graph. Saying more than the rows need
// costs time and changes no result.
struct SampleNeeds {
  bool rules = false;     // a row has penalties, bias, bans, allowed tokens or a mask
  bool draws = false;     // a row is not greedy
  bool logprobs = false;  // a row wants logprobs
};
SampleNeeds sample_needs(std::span<const SampleRow> rows);  // of host memory

// One step's rows, in device memory. Side arrays may be null if no row points into them.
struct SampleBatch {
  int64_t num_rows = 0;    // rows of logits, padding included
  int64_t num_tokens = 0;  // ids that may be drawn or listed; <= vocab_size
  SampleNeeds needs;
  const SampleRow* rows = nullptr;  // [num_rows]
  const TokenBias* bias = nullptr;  // [max_bias]
  const TokenBan* bans = nullptr;
  const int32_t* allowed = nullptr;
  const uint32_t* masks = nullptr;  // [mask rows, sample_mask_words(vocab_size)]
  int64_t max_bias = 0;             // entries of `bias`, all rows together
};
// Words of one mask row; bit i % 32 of word i / 32 belongs to token i.
int64_t sample_mask_words(int64_t vocab_size);

// What lives on the device from step to step: one allocation of sample_state_bytes, zeroed, cut by
// sample_state. Token counts are optional (num_counts_slots 0), because they are large: 2 bytes per
// slot and token of the vocabulary.
struct SampleState {
  int64_t vocab_size = 0;
  int64_t num_slots = 0;
  int64_t num_counts_slots = 0;
  int64_t max_rows = 0;
  int32_t* last_tokens = nullptr;    // [num_slots] the next step's embedding reads them
  uint16_t* token_counts = nullptr;  // [num_counts_slots, vocab_size] bit 15: in the prompt;
                                     // below: occurrences in the output, at most 32767
  uint32_t* arrivals = nullptr;      // [max_rows] zero between launches
};
uint64_t sample_state_bytes(int64_t vocab_size, int64_t num_slots, int64_t num_counts_slots,
                            int64_t max_rows);
SampleState sample_state(void* device_memory, int64_t vocab_size, int64_t num_slots,
                         int64_t num_counts_slots, int64_t max_rows);

// Bytes of ex.arena that sample_tokens takes, for any batch of up to num_rows rows.
uint64_t sample_workspace_bytes(int64_t num_rows, int64_t vocab_size, int64_t max_bias);

// Draws ids[i] for row i; also last_tokens[slot] and the counts of counts_slot. ids of
// kPromptLogprobs rows are their targets; those of padding are not written. Rules that ban every
// token leave the lowest allowed one if there is a list, else the lowest banned one, as on the CPU.
// CUDA only. Rows do not depend on each other; no two rows of a batch share a slot. Changes logits.
void sample_tokens(Exec& ex,
                   float* logits,  // [num_rows, vocab_size]
                   const SampleBatch& batch, const SampleState& state,
                   int32_t* ids,               // [num_rows], out
                   SampleLogprobs* logprobs);  // [logprobs indices], out; null if needs.logprobs
                                               // is false

// Token counts of a sequence that starts or resumes with penalties: clear, then add its prompt and
// its output, in pieces of any size and order.
void clear_token_counts(Exec& ex, const SampleState& state, int64_t counts_slot);
void add_token_counts(Exec& ex, const SampleState& state, int64_t counts_slot,
                      const int32_t* tokens,  // [count] device memory
                      int64_t count, bool is_output);

}  // namespace donar::ops

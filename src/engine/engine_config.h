// Every knob of the engine, with units. Flags map to these fields through one table
// (app/flags.cpp).
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace donar::engine {

struct EngineConfig {
  int64_t max_model_len =
      0;  // tokens of prompt and output; 0: what the model claims, capped by the KV cache
  int max_num_seqs = 32;             // sequences in one step
  int max_num_batched_tokens = 256;  // token budget of one step
  int64_t kv_cache_bytes =
      0;  // 0: min(25 % of available memory, what max_num_seqs * max_model_len can use)
  DType kv_dtype = DType::kBF16;
  bool prefix_caching = true;
  int max_waiting = 1024;  // inbox and waiting queue together; beyond: 429
  uint64_t seed = 0;       // of the seeds drawn for requests without one
  bool chunked_prefill =
      true;  // false: a prompt runs whole, so the budget is raised to max_model_len
};

}  // namespace donar::engine

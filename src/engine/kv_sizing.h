// How large the KV cache is and how long a sequence may be: resolved once, before anything is
// allocated.
#pragma once

#include <cstdint>

#include "base/error.h"
#include "engine/engine_config.h"

namespace donar::engine {

struct KvSize {
  int64_t max_model_len = 0;
  int64_t num_blocks = 0;
  bool is_len_reduced = false;  // the model claims a longer context than the cache holds
};

// claimed_len: the longest context of the checkpoint. available_bytes: memory that could be taken
// now. kInvalidArgument or kResourceExhausted, with numbers, when one sequence of max_model_len
// tokens cannot fit.
Result<KvSize> size_kv_cache(const EngineConfig& config, int64_t claimed_len,
                             uint64_t bytes_per_block, uint64_t available_bytes);

}  // namespace donar::engine

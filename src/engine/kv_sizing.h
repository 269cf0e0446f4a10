// How large the KV cache is and how long a sequence may be: resolved once, before anything is
// allocated.
#pragma once

#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/function_ref.h"
#include "engine/engine_config.h"

namespace donar::engine {

// What this process may take of a device's memory, its weights included.
struct MemoryLimit {
  uint64_t bytes = 0;
  std::string reason;  // in words: "90 % of 85.0 GB, less 0.6 GB in use by others"
};

// A share of all memory less what others hold. available_bytes: what could be taken now; of a
// device that shares the host's memory that is MemAvailable (a driver calls the page cache taken).
// utilization 0: all that is available.
MemoryLimit memory_limit(uint64_t total_bytes, uint64_t available_bytes, double utilization);

// Memory that the cache has to fit into.
struct KvBudget {
  MemoryLimit limit;          // for weights, workspace and cache together
  uint64_t weight_bytes = 0;  // within the limit, allocated or not
  double share = 1.0;         // of what weights and workspace leave; the CPU's default is a quarter
  bool fill = true;  // take all of that: old prefixes stay longer; else no more blocks than
                     // max_num_seqs sequences can use
};

struct KvSize {
  int64_t max_model_len = 0;
  int64_t num_blocks = 0;
  bool is_len_reduced = false;  // the model claims a longer context than the cache holds
};

// config: with defaults. claimed_len: the longest context of the checkpoint.
// workspace_bytes(max_model_len): activations, tables, graphs, all that the engine takes beside
// weights and cache; it must not fall as the context grows. kInvalidArgument or kResourceExhausted,
// with the numbers and the context that would fit, when one sequence of max_model_len tokens
// cannot.
Result<KvSize> size_kv_cache(const EngineConfig& config, int64_t claimed_len,
                             uint64_t bytes_per_block, const KvBudget& budget,
                             FunctionRef<uint64_t(int64_t max_model_len)> workspace_bytes);

}  // namespace donar::engine

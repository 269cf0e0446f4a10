// Every knob of the engine, with units. Flags map to these fields through one table
// (app/flags.cpp).
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "tensor/dtype.h"
#include "tensor/exec.h"

namespace donar::engine {

struct EngineConfig {
  int64_t max_model_len =
      0;  // tokens of prompt and output; 0: what the model claims, capped by the KV cache
  int max_num_seqs = 0;            // sequences in one step; 0: 32 on the CPU, 256 on CUDA
  int max_num_batched_tokens = 0;  // token budget of one step; 0: 256 on the CPU, 2,048 on CUDA
  int64_t kv_cache_bytes = 0;  // 0: on the CPU min(25 % of available memory, what max_num_seqs *
                               // max_model_len can use), on CUDA what the rest leaves
  double gpu_memory_utilization = 0.9;  // CUDA: share of the device's memory for all of this,
                                        // others' use counted
  std::optional<DType> kv_dtype;        // none: bfloat16 on the CPU, on CUDA the 16-bit type of
                                        // the weights, which is the only one there
  bool prefix_caching = true;
  int max_waiting = 1024;  // inbox and waiting queue together; beyond: 429
  uint64_t seed = 0;       // of the seeds drawn for requests without one
  bool chunked_prefill =
      true;  // false: a prompt runs whole, so the budget is raised to max_model_len
  bool enforce_eager = false;    // CUDA: no graphs, every kernel of a step is launched by itself
  bool batch_invariant = false;  // CUDA: the same bits whatever else is in a step, also beyond 64
                                 // rows; slower
};

// `config` with every 0 that a device decides resolved: what is given also bounds what is not.
inline EngineConfig with_defaults(EngineConfig config, DeviceType device) {
  const bool is_cuda = device == DeviceType::kCuda;
  const int num_seqs = is_cuda ? 256 : 32, num_tokens = is_cuda ? 2048 : 256;
  if (config.max_num_seqs == 0) {
    config.max_num_seqs = config.max_num_batched_tokens > 0
                              ? std::min(num_seqs, config.max_num_batched_tokens)
                              : num_seqs;
  }
  if (config.max_num_batched_tokens == 0)
    config.max_num_batched_tokens = std::max(num_tokens, config.max_num_seqs);
  return config;
}

}  // namespace donar::engine

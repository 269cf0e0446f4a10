// See kv_sizing.h.
#include "engine/kv_sizing.h"

#include <algorithm>
#include <limits>

#include "kv/block_table.h"
#include "tensor/memory_ledger.h"

namespace donar::engine {

Result<KvSize> size_kv_cache(const EngineConfig& config, int64_t claimed_len,
                             uint64_t bytes_per_block, uint64_t available_bytes) {
  if (config.max_model_len > 0 && claimed_len > 0 && config.max_model_len > claimed_len) {
    return tl::unexpected<Error>(
        Error{ErrorCode::kInvalidArgument,
              fmt::format("max_model_len is {}, but the model's context is {} tokens: lower it",
                          config.max_model_len, claimed_len),
              "max_model_len"});
  }
  KvSize size;
  size.max_model_len = config.max_model_len > 0 ? config.max_model_len : claimed_len;
  if (size.max_model_len <= 0) {
    return tl::unexpected<Error>(Error{
        ErrorCode::kInvalidArgument,
        "the model does not say how long its context is: set max_model_len", "max_model_len"});
  }
  const int64_t blocks_per_sequence = kv::blocks_for(size.max_model_len);
  const int64_t max_blocks =
      std::numeric_limits<int32_t>::max() / kv::kBlockTokens;  // slots are 32-bit
  const int64_t usable_blocks =
      std::min(max_blocks, blocks_per_sequence > max_blocks / config.max_num_seqs
                               ? max_blocks
                               : blocks_per_sequence * config.max_num_seqs);
  const uint64_t asked_bytes = static_cast<uint64_t>(std::max<int64_t>(config.kv_cache_bytes, 0));
  const uint64_t bytes = asked_bytes > 0 ? asked_bytes : available_bytes / 4;
  const auto affordable_blocks = static_cast<int64_t>(
      std::min<uint64_t>(bytes / bytes_per_block, static_cast<uint64_t>(max_blocks)));
  size.num_blocks =
      asked_bytes > 0 ? affordable_blocks : std::min(affordable_blocks, usable_blocks);
  if (size.num_blocks >= blocks_per_sequence) return size;

  if (config.max_model_len == 0 && size.num_blocks > 0) {
    size.max_model_len = size.num_blocks * kv::kBlockTokens;
    size.is_len_reduced = true;
    return size;
  }
  return fail(ErrorCode::kResourceExhausted,
              "one sequence of {} tokens needs {} of KV cache, but there are {} ({}): lower "
              "max_model_len to at most {}, or give "
              "the KV cache more memory",
              size.max_model_len,
              format_bytes(static_cast<uint64_t>(blocks_per_sequence) * bytes_per_block),
              format_bytes(bytes),
              asked_bytes > 0
                  ? std::string("as configured")
                  : fmt::format("a quarter of the {} available", format_bytes(available_bytes)),
              size.num_blocks * kv::kBlockTokens);
}

}  // namespace donar::engine

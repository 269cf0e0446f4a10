// See kv_sizing.h.
#include "engine/kv_sizing.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "kv/block_table.h"
#include "tensor/memory_ledger.h"

namespace donar::engine {
namespace {

constexpr int64_t kMaxBlocks =
    std::numeric_limits<int32_t>::max() / kv::kBlockTokens;  // slots are 32-bit

tl::unexpected<Error> refuse_length(std::string message) {
  return tl::unexpected<Error>(
      Error{ErrorCode::kInvalidArgument, std::move(message), "max_model_len"});
}

class Sizing {
 public:
  Sizing(const EngineConfig& config, uint64_t bytes_per_block, const KvBudget& budget,
         FunctionRef<uint64_t(int64_t)> workspace_bytes)
      : asked_bytes_(static_cast<uint64_t>(std::max<int64_t>(config.kv_cache_bytes, 0))),
        max_num_seqs_(config.max_num_seqs),
        bytes_per_block_(bytes_per_block),
        budget_(budget),
        workspace_bytes_(workspace_bytes) {}

  // Room for the cache beside what a context of `len` tokens takes.
  uint64_t cache_bytes(int64_t len) const {
    const uint64_t left = left_bytes(len);
    if (asked_bytes_ > 0) return std::min(asked_bytes_, left);
    return budget_.share < 1.0 ? static_cast<uint64_t>(static_cast<double>(left) * budget_.share)
                               : left;
  }

  int64_t num_blocks(int64_t len) const {
    const auto affordable = static_cast<int64_t>(
        std::min<uint64_t>(cache_bytes(len) / bytes_per_block_, uint64_t{kMaxBlocks}));
    if (budget_.fill || asked_bytes_ > 0) return affordable;
    const int64_t per_sequence = kv::blocks_for(len);
    return per_sequence > kMaxBlocks / max_num_seqs_
               ? affordable
               : std::min(affordable, per_sequence * max_num_seqs_);
  }

  bool fits(int64_t len) const {
    return cache_bytes(len) / bytes_per_block_ >= static_cast<uint64_t>(kv::blocks_for(len));
  }

  // The longest context up to `len`, which does not fit: whole blocks, or 0.
  int64_t longest(int64_t len) const {
    int64_t low = 0, high = kv::blocks_for(len);  // low fits, high does not
    while (high - low > 1) {
      const int64_t middle = low + (high - low) / 2;
      (fits(middle * kv::kBlockTokens) ? low : high) = middle;
    }
    return low * kv::kBlockTokens;
  }

  Error refusal(int64_t len) const {
    const uint64_t workspace = workspace_bytes_(len);
    const uint64_t cache = static_cast<uint64_t>(kv::blocks_for(len)) * bytes_per_block_;
    const uint64_t others = budget_.weight_bytes + workspace;
    std::string needed = fmt::format("KV cache of one sequence {}", format_bytes(cache));
    if (workspace > 0) needed = fmt::format("workspace {}, {}", format_bytes(workspace), needed);
    if (budget_.weight_bytes > 0)
      needed = fmt::format("weights {}, {}", format_bytes(budget_.weight_bytes), needed);
    std::string message =
        fmt::format("a context of {} tokens needs {} ({}), {} available ({})", len,
                    format_bytes(others + cache), needed, available_text(others, len), reason());
    const int64_t fitting = longest(len);
    message += fitting > 0
                   ? fmt::format("; --max-model-len {} fits", fitting)
                   : std::string(
                         "; not even one block of 16 tokens fits: choose a smaller model, a "
                         "smaller step (--max-num-batched-tokens), or free memory");
    return Error{ErrorCode::kResourceExhausted, std::move(message), {}};
  }

  // The cache was asked for by size: it has to fit as a whole.
  Result<void> check_asked(int64_t len) const {
    if (asked_bytes_ == 0 || asked_bytes_ <= left_bytes(len)) return {};
    return fail(ErrorCode::kResourceExhausted,
                "a KV cache of {} needs {} with weights and workspace, {} available ({}); "
                "--kv-cache-memory-bytes {} fits",
                format_bytes(asked_bytes_),
                format_bytes(budget_.weight_bytes + workspace_bytes_(len) + asked_bytes_),
                format_bytes(budget_.limit.bytes), budget_.limit.reason, left_bytes(len));
  }

 private:
  uint64_t left_bytes(int64_t len) const {
    const uint64_t others = budget_.weight_bytes + workspace_bytes_(len);
    return budget_.limit.bytes - std::min(budget_.limit.bytes, others);
  }

  // What can be had for all of it, comparable with what is needed.
  std::string available_text(uint64_t others, int64_t len) const {
    if (others > budget_.limit.bytes) return format_bytes(budget_.limit.bytes);
    return format_bytes(others + cache_bytes(len));
  }

  std::string reason() const {
    if (asked_bytes_ > 0)
      return fmt::format("the KV cache is set to {}", format_bytes(asked_bytes_));
    if (budget_.share < 1.0)
      return fmt::format("the KV cache takes {:.0f} % of the {} that are free",
                         budget_.share * 100.0, format_bytes(budget_.limit.bytes));
    return budget_.limit.reason;
  }

  const uint64_t asked_bytes_;
  const int64_t max_num_seqs_;
  const uint64_t bytes_per_block_;
  const KvBudget& budget_;
  const FunctionRef<uint64_t(int64_t)> workspace_bytes_;
};

}  // namespace

MemoryLimit memory_limit(uint64_t total_bytes, uint64_t available_bytes, double utilization) {
  available_bytes = std::min(available_bytes, total_bytes);
  if (utilization <= 0.0) return {available_bytes, "all that is free"};
  const uint64_t others = total_bytes - available_bytes;
  const auto share =
      static_cast<uint64_t>(static_cast<double>(total_bytes) * std::min(utilization, 1.0));
  return {share - std::min(share, others),
          fmt::format("{:.0f} % of {}, less {} in use by others", utilization * 100.0,
                      format_bytes(total_bytes), format_bytes(others))};
}

Result<KvSize> size_kv_cache(const EngineConfig& config, int64_t claimed_len,
                             uint64_t bytes_per_block, const KvBudget& budget,
                             FunctionRef<uint64_t(int64_t max_model_len)> workspace_bytes) {
  DONAR_CHECK(bytes_per_block > 0 && budget.share > 0.0 && config.max_num_seqs > 0);
  if (config.max_model_len > 0 && claimed_len > 0 && config.max_model_len > claimed_len)
    return refuse_length(
        fmt::format("max_model_len is {}, but the model's context is {} tokens: lower it",
                    config.max_model_len, claimed_len));
  KvSize size;
  size.max_model_len = config.max_model_len > 0 ? config.max_model_len : claimed_len;
  if (size.max_model_len <= 0)
    return refuse_length("the model does not say how long its context is: set max_model_len");
  const Sizing sizing(config, bytes_per_block, budget, workspace_bytes);
  if (!sizing.fits(size.max_model_len)) {
    const int64_t longest = config.max_model_len > 0 ? 0 : sizing.longest(size.max_model_len);
    if (longest == 0) {
      if (Result<void> asked = sizing.check_asked(size.max_model_len); !asked)
        return forward_error(asked);
      return tl::unexpected<Error>(sizing.refusal(size.max_model_len));
    }
    size.max_model_len = longest;
    size.is_len_reduced = true;
  }
  if (Result<void> asked = sizing.check_asked(size.max_model_len); !asked)
    return forward_error(asked);
  size.num_blocks = sizing.num_blocks(size.max_model_len);
  return size;
}

}  // namespace donar::engine

// Weights from files into their packed form. On the CPU a reader thread streams the file in order
// through bounded staging while the pool repacks what has arrived; for CUDA see cuda_loader.h.
// Peak memory = packed weights + 256 MB.
#include <algorithm>

#include "model/cuda_loader.h"
#include "model/load_plan.h"
#include "model/model.h"
#include "model/packer.h"
#include "model/read_plan.h"
#include "tensor/cuda.h"

namespace donar::model {
namespace {

constexpr uint64_t kStagingLimit = uint64_t{256} << 20;
constexpr uint64_t kExtentBytes = uint64_t{16} << 20;  // a disk is at full speed from a few MB on
constexpr uint64_t kMaxExtentBytes = uint64_t{48} << 20;  // for very long rows
constexpr uint64_t kScratchLimit = uint64_t{96} << 20;
constexpr ReaderOptions kReader{.threads = 1, .slots = 3};
static_assert(kReader.slots * kMaxExtentBytes + kScratchLimit <= kStagingLimit);

Result<void> stream_weights(MemoryLedger& ledger, const ModelFiles& files, const LoadPlan& plan,
                            const LoadOptions& options, const Packer& packer, std::byte* weights) {
  Result<ReadPlan> reads =
      plan_reads(files, plan, {.extent_bytes = kExtentBytes, .max_extent_bytes = kMaxExtentBytes});
  if (!reads) return forward_error(reads);
  auto reader = ExtentReader::start(ledger, files.checkpoint.files, reads->extents,
                                    reads->max_extent_bytes, kReader);
  if (!reader) return forward_error(reader);
  uint64_t done_bytes = 0;
  const std::byte* staged = nullptr;
  size_t next_extent = 0;
  for (const Piece& piece : reads->pieces) {
    if (piece.extent == next_extent) {
      (*reader)->release(next_extent);
      const Result<const std::byte*> bytes = (*reader)->next();
      if (!bytes) return tl::unexpected(bytes.error());
      staged = *bytes;
      ++next_extent;
    }
    packer.pack(*piece.item, piece.row_begin, piece.rows, staged + piece.offset, weights);
    done_bytes += piece.bytes();
    if (options.on_progress) options.on_progress(done_bytes, plan.stored_bytes);
  }
  return {};
}

void make_dummy_weights(const LoadPlan& plan, const LoadOptions& options, const Packer& packer,
                        std::byte* weights) {
  uint64_t done_bytes = 0;
  for (size_t i = 0; i < plan.items.size(); ++i) {
    const LoadItem& item = plan.items[i];
    packer.pack_dummy(item, dummy_seed(i), weights);
    if (!item.is_vector) done_bytes = std::max(done_bytes, item.place);
    if (options.on_progress) options.on_progress(done_bytes, plan.packed_bytes);
  }
  if (options.on_progress) options.on_progress(plan.packed_bytes, plan.packed_bytes);
}

Result<void> load_on_cpu(Exec& ex, MemoryLedger& ledger, const ModelFiles& files,
                         const LoadPlan& plan, const LoadOptions& options, std::byte* weights) {
  Result<Packer> packer = Packer::create(ex, ledger, plan, kScratchLimit);
  if (!packer) return forward_error(packer);
  if (options.load_format != LoadFormat::kDummy)
    return stream_weights(ledger, files, plan, options, *packer, weights);
  make_dummy_weights(plan, options, *packer, weights);
  return {};
}

}  // namespace

Result<Weights> load_weights(Exec& ex, MemoryLedger& ledger, const ModelFiles& files,
                             const LoadOptions& options, MemoryLedger* host_ledger) {
  const Result<LoadPlan> sizes = plan_load(files, options, ex, /*buffer=*/nullptr);
  if (!sizes) return tl::unexpected(sizes.error());
  Result<Buffer> buffer = Buffer::allocate(ledger, MemoryUse::kWeights, sizes->packed_bytes);
  if (!buffer) return forward_error(buffer);
  Result<LoadPlan> plan = plan_load(files, options, ex, buffer->data());
  if (!plan) return forward_error(plan);
  if (options.load_format != LoadFormat::kDummy) warn_of_unused_tensors(files, *plan);
  Result<void> loaded;
  if constexpr (kCuda) {
    if (ex.on_cuda()) {
      MemoryLedger own;  // of staging that nobody asks about
      MemoryLedger& host = host_ledger ? *host_ledger : own;
      loaded = load_on_cuda(ex, {ledger, host}, files, *plan, options, buffer->data());
    }
  }
  if (!ex.on_cuda()) loaded = load_on_cpu(ex, ledger, files, *plan, options, buffer->data());
  if (!loaded) return forward_error(loaded);
  plan->weights.buffers.push_back(std::move(*buffer));
  return std::move(plan->weights);
}

Result<Weights> plan_weights(const Exec& ex, const ModelFiles& files, const LoadOptions& options) {
  Result<LoadPlan> plan = plan_load(files, options, ex, /*buffer=*/nullptr);
  if (!plan) return forward_error(plan);
  return std::move(plan->weights);
}

Result<uint64_t> weight_bytes(const ModelFiles& files, const LoadOptions& options) {
  const Result<Weights> weights = plan_weights(Exec{}, files, options);
  if (!weights) return tl::unexpected(weights.error());
  return weights->bytes;
}

Result<DType> cuda_dtype(const ModelFiles& files, const LoadOptions& options) {
  if (options.dtype == DType::kF32)
    return fail(
        ErrorCode::kUnsupported,
        "float32 runs on the CPU only: choose --dtype bfloat16 or float16, or --device cpu");
  if (options.dtype) return *options.dtype;
  bool any_f16 = false, all_f16 = true;
  for (const auto& [name, entry] : files.checkpoint.tensors) {
    if (entry.shape.size() < 2) continue;
    any_f16 |= entry.format == quant::Format::kF16;
    all_f16 &= entry.format == quant::Format::kF16 || entry.format == quant::Format::kF32;
  }
  return any_f16 && all_f16 ? DType::kF16 : DType::kBF16;
}

}  // namespace donar::model

// Weights from files into their packed form: a reader thread streams the file in order through
// bounded staging while the pool repacks what has arrived. Peak memory = packed weights +
// kStagingLimit.
#include <algorithm>

#include "model/extent_reader.h"
#include "model/load_plan.h"
#include "model/model.h"
#include "model/packer.h"

namespace donar::model {
namespace {

constexpr uint64_t kStagingLimit = uint64_t{256} << 20;
constexpr uint64_t kExtentBytes = uint64_t{16} << 20;  // a disk is at full speed from a few MB on
constexpr uint64_t kMaxExtentBytes = uint64_t{48} << 20;  // for very long rows
constexpr uint64_t kScratchLimit = uint64_t{96} << 20;
constexpr uint64_t kMaxGap = uint64_t{1}
                             << 20;  // reading so much for nothing is cheaper than another read

// Rows of one item within an extent.
struct Piece {
  const LoadItem* item = nullptr;
  int64_t row_begin = 0;
  int64_t rows = 0;
  size_t extent = 0;
  uint64_t offset = 0;  // in the extent
};

struct ReadPlan {
  std::vector<Extent> extents;
  std::vector<Piece> pieces;  // in the order of the extents
  uint64_t max_extent_bytes = kExtentBytes;
};

Result<ReadPlan> plan_reads(const ModelFiles& files, const LoadPlan& plan) {
  ReadPlan reads;
  for (const LoadItem& item : plan.items) {
    const auto unit_bytes = static_cast<uint64_t>(std::min(item.n, item.unit_rows())) *
                            static_cast<uint64_t>(item.stored_row_bytes());
    reads.max_extent_bytes = std::max(reads.max_extent_bytes, unit_bytes);
    if (unit_bytes > kMaxExtentBytes)
      return fail(ErrorCode::kUnsupported,
                  "{}: tensor {}: rows are too long to be streamed: {} of them take {}, at most {} "
                  "are planned for",
                  files.checkpoint.files[static_cast<size_t>(item.entry->file)].path().string(),
                  item.entry->name, item.unit_rows(), format_bytes(unit_bytes),
                  format_bytes(kMaxExtentBytes));
  }
  for (const LoadItem& item : plan.items) {
    const int64_t row_bytes = item.stored_row_bytes(), unit = item.unit_rows();
    const int64_t rows_per_piece =
        std::max(unit, static_cast<int64_t>(reads.max_extent_bytes) / row_bytes / unit * unit);
    for (int64_t row = 0; row < item.n; row += rows_per_piece) {
      const int64_t rows = std::min(rows_per_piece, item.n - row);
      const uint64_t begin = item.entry->offset + static_cast<uint64_t>(row * row_bytes);
      const uint64_t end = begin + static_cast<uint64_t>(rows * row_bytes);
      Extent* last = reads.extents.empty() ? nullptr : &reads.extents.back();
      if (last && last->file == item.entry->file && begin >= last->end &&
          begin - last->end <= kMaxGap && end - last->begin <= reads.max_extent_bytes)
        last->end = end;
      else
        reads.extents.push_back({item.entry->file, begin, end});
      reads.pieces.push_back(
          {&item, row, rows, reads.extents.size() - 1, begin - reads.extents.back().begin});
    }
  }
  return reads;
}

Result<void> stream_weights(MemoryLedger& ledger, const ModelFiles& files, const LoadPlan& plan,
                            const LoadOptions& options, const Packer& packer, std::byte* weights) {
  Result<ReadPlan> reads = plan_reads(files, plan);
  if (!reads) return forward_error(reads);
  auto reader =
      ExtentReader::start(ledger, files.checkpoint.files, reads->extents, reads->max_extent_bytes);
  if (!reader) return forward_error(reader);
  uint64_t done_bytes = 0;
  const std::byte* staged = nullptr;
  size_t next_extent = 0;
  for (const Piece& piece : reads->pieces) {
    if (piece.extent == next_extent) {
      const Result<const std::byte*> bytes = (*reader)->next();
      if (!bytes) return tl::unexpected(bytes.error());
      staged = *bytes;
      ++next_extent;
    }
    packer.pack(*piece.item, piece.row_begin, piece.rows, staged + piece.offset, weights);
    done_bytes += static_cast<uint64_t>(piece.rows * piece.item->stored_row_bytes());
    if (options.on_progress) options.on_progress(done_bytes, plan.stored_bytes);
  }
  return {};
}

void make_dummy_weights(const LoadPlan& plan, const LoadOptions& options, const Packer& packer,
                        std::byte* weights) {
  uint64_t done_bytes = 0, seed = 0;
  for (const LoadItem& item : plan.items) {
    packer.pack_dummy(item, seed += 0x632be59bd9b4e019u, weights);
    done_bytes = std::max(done_bytes, item.place);
    if (options.on_progress) options.on_progress(done_bytes, plan.packed_bytes);
  }
  if (options.on_progress) options.on_progress(plan.packed_bytes, plan.packed_bytes);
}

}  // namespace

static_assert(ExtentReader::kNumBuffers * kMaxExtentBytes + kScratchLimit <= kStagingLimit);

Result<Weights> load_weights(Exec& ex, MemoryLedger& ledger, const ModelFiles& files,
                             const LoadOptions& options) {
  const Result<LoadPlan> sizes = plan_load(files, options, ex.device, /*buffer=*/nullptr);
  if (!sizes) return tl::unexpected(sizes.error());
  Result<Buffer> buffer = Buffer::allocate(ledger, MemoryUse::kWeights, sizes->packed_bytes);
  if (!buffer) return forward_error(buffer);
  Result<LoadPlan> plan = plan_load(files, options, ex.device, buffer->data());
  if (!plan) return forward_error(plan);
  Result<Packer> packer = Packer::create(ex, ledger, *plan, kScratchLimit);
  if (!packer) return forward_error(packer);
  if (options.load_format == LoadFormat::kDummy) {
    make_dummy_weights(*plan, options, *packer, buffer->data());
  } else {
    warn_of_unused_tensors(files, *plan);
    Result<void> loaded = stream_weights(ledger, files, *plan, options, *packer, buffer->data());
    if (!loaded) return forward_error(loaded);
  }
  plan->weights.buffers.push_back(std::move(*buffer));
  return std::move(plan->weights);
}

Result<uint64_t> weight_bytes(const ModelFiles& files, const LoadOptions& options) {
  const Result<LoadPlan> plan = plan_load(files, options, DeviceType::kCpu, /*buffer=*/nullptr);
  if (!plan) return tl::unexpected(plan.error());
  return plan->packed_bytes;
}

}  // namespace donar::model

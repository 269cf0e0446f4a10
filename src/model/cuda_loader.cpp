// A few lanes, each a stream with its own staging on the device. The extents go to them in turn:
// while one lane copies, another repacks, and the order within a stream keeps their staging apart.
#include "model/cuda_loader.h"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "tensor/cuda.h"

namespace donar::model {
namespace {

constexpr uint64_t kStagingLimit = uint64_t{256} << 20;
constexpr uint64_t kExtentBytes = uint64_t{8} << 20;
constexpr uint64_t kMaxExtentBytes = uint64_t{12} << 20;  // for very long rows
constexpr int kMaxReaders = 8;  // one core copies about 5 GB/s out of the page cache
constexpr int kLanes = 3;
constexpr int kSpareSlots = 1;  // read ahead while the next extent waits for its lane
constexpr uint64_t kPieceAlignment = 256;

uint64_t align(uint64_t bytes) { return (bytes + kPieceAlignment - 1) & ~(kPieceAlignment - 1); }

void check(cudaError_t code, const char* call) {
  if (code != cudaSuccess) throw_cuda_error(code, call);
}

class Event {
 public:
  Event() {
    check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming | cudaEventBlockingSync),
          "cudaEventCreateWithFlags");
  }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record(const CudaStream& stream) {
    check(cudaEventRecord(event_, stream.handle()), "cudaEventRecord");
  }
  void wait() { check(cudaEventSynchronize(event_), "cudaEventSynchronize"); }

 private:
  cudaEvent_t event_ = nullptr;
};

// The stream goes first, and waits for its work.
struct Lane {
  Buffer staging;  // pieces one after the other, aligned, unlike in the file
  Event copied;    // the last extent has left its pinned slot
  CudaStream stream;
};

CudaDevice device_of(const Exec& ex) {
  CudaDevice device;
  device.ordinal = ex.cuda->ordinal;
  device.arch = ex.cuda->arch;
  device.num_sms = ex.cuda->num_sms;
  device.shared_bytes_per_block = ex.cuda->shared_bytes_per_block;
  return device;
}

Result<std::vector<std::unique_ptr<Lane>>> make_lanes(const Exec& ex, MemoryLedger& ledger,
                                                      const ReadPlan& reads) {
  uint64_t bytes = 0, extent_bytes = 0;
  size_t extent = 0;
  for (const Piece& piece : reads.pieces) {
    if (piece.extent != extent) extent_bytes = 0;
    extent = piece.extent;
    extent_bytes += align(piece.bytes());
    bytes = std::max(bytes, extent_bytes);
  }
  std::vector<std::unique_ptr<Lane>> lanes;
  for (int i = 0; i < kLanes; ++i) {
    Result<Buffer> staging = Buffer::allocate(ledger, MemoryUse::kStaging, bytes);
    if (!staging) return forward_error(staging);
    lanes.push_back(std::unique_ptr<Lane>(
        new Lane{std::move(*staging), {}, CudaStream::create(device_of(ex))}));
  }
  return lanes;
}

// Vectors are small: they are made on the host and go up as one.
class VectorStaging {
 public:
  static Result<VectorStaging> create(MemoryLedger& host, const LoadPlan& plan) {
    VectorStaging vectors;
    vectors.begin_ = plan.matrix_bytes;
    Result<Buffer> buffer =
        Buffer::allocate_pinned(host, MemoryUse::kStaging, plan.packed_bytes - plan.matrix_bytes);
    if (!buffer) return forward_error(buffer);
    vectors.buffer_ = std::move(*buffer);
    return vectors;
  }
  float* at(const LoadItem& item) const {
    return reinterpret_cast<float*>(buffer_.data() + (item.place - begin_));
  }
  void upload(std::byte* weights, const CudaStream& stream) const {
    cuda_copy(weights + begin_, buffer_.data(), buffer_.size(), stream.handle());
  }

 private:
  Buffer buffer_;
  uint64_t begin_ = 0;
};

Result<void> stream_to_cuda(const Exec& ex, LoadLedgers ledgers, const ModelFiles& files,
                            const LoadPlan& plan, const LoadOptions& options, std::byte* weights) {
  Result<ReadPlan> reads =
      plan_reads(files, plan,
                 {.extent_bytes = kExtentBytes,
                  .max_extent_bytes = kMaxExtentBytes,
                  .whole_units = false});  // the kernel moves every row by itself
  if (!reads) return forward_error(reads);
  Result<VectorStaging> vectors = VectorStaging::create(ledgers.host, plan);
  if (!vectors) return forward_error(vectors);
  const int readers = std::min(kMaxReaders, available_cpus());
  Result<std::unique_ptr<ExtentReader>> reader = ExtentReader::start(
      ledgers.host, files.checkpoint.files, reads->extents, reads->max_extent_bytes,
      {.threads = readers, .slots = readers + kLanes + kSpareSlots, .pinned = true});
  if (!reader) return forward_error(reader);
  // After the reader, so that no copy reads a slot that is gone.
  Result<std::vector<std::unique_ptr<Lane>>> lanes = make_lanes(ex, ledgers.device, *reads);
  if (!lanes) return forward_error(lanes);

  const TimePoint begin = Clock::now();
  uint64_t done_bytes = 0;
  auto piece = reads->pieces.begin();
  for (size_t extent = 0; extent < reads->extents.size(); ++extent) {
    Lane& lane = *(*lanes)[extent % kLanes];
    if (extent >= kLanes) {
      lane.copied.wait();
      (*reader)->release(extent - kLanes + 1);
    }
    const Result<const std::byte*> slot = (*reader)->next();
    if (!slot) return tl::unexpected(slot.error());
    // All copies before the first kernel: then the slot is free that much earlier.
    const auto first = piece;
    std::byte* staged = lane.staging.data();
    for (; piece != reads->pieces.end() && piece->extent == extent; ++piece) {
      if (piece->item->is_vector) {
        pack_vector(*piece->item, *slot + piece->offset, vectors->at(*piece->item));
        continue;
      }
      cuda_copy(staged, *slot + piece->offset, piece->bytes(), lane.stream.handle());
      staged += align(piece->bytes());
    }
    lane.copied.record(lane.stream);
    staged = lane.staging.data();
    for (auto it = first; it != piece; ++it) {
      done_bytes += it->bytes();
      if (it->item->is_vector) continue;
      ops::cuda::repack(repack_params(*it, staged, weights), lane.stream.exec());
      staged += align(it->bytes());
    }
    if (options.on_progress) options.on_progress(done_bytes, plan.stored_bytes);
  }
  vectors->upload(weights, lanes->front()->stream);
  for (const std::unique_ptr<Lane>& lane : *lanes) lane->stream.wait();
  const double seconds = seconds_since(begin);
  log_info("weights: {} in {:.2f} s, {:.1f} GB/s; {} from the page cache, {} past it",
           format_bytes(done_bytes), seconds, static_cast<double>(done_bytes) / 1e9 / seconds,
           format_bytes((*reader)->cached_bytes()), format_bytes((*reader)->direct_bytes()));
  return {};
}

Result<void> make_dummy_weights(const Exec& ex, LoadLedgers ledgers, const LoadPlan& plan,
                                const LoadOptions& options, std::byte* weights) {
  Result<VectorStaging> vectors = VectorStaging::create(ledgers.host, plan);
  if (!vectors) return forward_error(vectors);
  const CudaStream stream = CudaStream::create(device_of(ex));
  for (size_t i = 0; i < plan.items.size(); ++i) {
    const LoadItem& item = plan.items[i];
    if (item.is_vector) {
      pack_dummy_vector(item, dummy_seed(i), vectors->at(item));
      continue;
    }
    ops::cuda::fill_random(fill_params(item, i, weights), stream.exec());
  }
  vectors->upload(weights, stream);
  stream.wait();
  if (options.on_progress) options.on_progress(plan.packed_bytes, plan.packed_bytes);
  return {};
}

}  // namespace

static_assert((kMaxReaders + kLanes + kSpareSlots) * kMaxExtentBytes + kLanes * kMaxExtentBytes <=
              kStagingLimit - (uint64_t{32} << 20));  // and what vectors take

Result<void> load_on_cuda(const Exec& ex, LoadLedgers ledgers, const ModelFiles& files,
                          const LoadPlan& plan, const LoadOptions& options, std::byte* weights) {
  if (options.load_format == LoadFormat::kDummy)
    return make_dummy_weights(ex, ledgers, plan, options, weights);
  return stream_to_cuda(ex, ledgers, files, plan, options, weights);
}

}  // namespace donar::model

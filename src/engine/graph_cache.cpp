// See graph_cache.h.
#include "engine/graph_cache.h"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "tensor/cuda.h"

namespace donar::engine {
namespace {

void check(cudaError_t code, const char* call) {
  if (code != cudaSuccess) throw_cuda_error(code, call);
}

// A graph while it is being made.
struct Captured {
  cudaGraph_t graph = nullptr;
  ~Captured() {
    if (graph) cudaGraphDestroy(graph);
  }
};

// Short, and of this thread alone: other threads may call CUDA meanwhile.
void capture_stream(CudaStreamHandle stream, FunctionRef<void()> work, Captured& captured) {
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  try {
    work();
  } catch (...) {
    cudaStreamEndCapture(stream, &captured.graph);  // the first error is the one that counts
    throw;
  }
  check(cudaStreamEndCapture(stream, &captured.graph), "cudaStreamEndCapture");
}

}  // namespace

std::vector<int64_t> GraphCache::sizes_up_to(int64_t max_rows) {
  std::vector<int64_t> sizes;
  for (int64_t size = 1; size < max_rows;) {
    sizes.push_back(size);
    size = size < 8 ? size * 2 : size + (size < 64 ? 8 : size < 256 ? 16 : 64);
  }
  if (max_rows > 0) sizes.push_back(max_rows);
  return sizes;
}

GraphCache::GraphCache(MemoryLedger& ledger, CudaStreamHandle stream, int64_t max_rows)
    : ledger_(ledger),
      stream_(stream),
      sizes_(sizes_up_to(max_rows)),
      entries_(sizes_.size() * kNumGraphKinds) {}

GraphCache::~GraphCache() {
  for (const Entry& entry : entries_) {
    if (!entry.graph) continue;
    cudaGraphExecDestroy(entry.graph);
    ledger_.release(MemoryUse::kGraphs, entry.bytes);
  }
}

int64_t GraphCache::padded(int64_t rows) const {
  const auto found = std::ranges::lower_bound(sizes_, rows);
  return found == sizes_.end() ? 0 : *found;
}

size_t GraphCache::index(int64_t size, GraphKind kind) const {
  const auto found = std::ranges::lower_bound(sizes_, size);
  DONAR_CHECK(found != sizes_.end() && *found == size, "no graphs of {} rows", size);
  return static_cast<size_t>(found - sizes_.begin()) * kNumGraphKinds + static_cast<size_t>(kind);
}

void GraphCache::replay(int64_t size, GraphKind kind) const {
  const Entry& entry = at(size, kind);
  DONAR_CHECK(entry.graph != nullptr);
  check(cudaGraphLaunch(entry.graph, stream_), "cudaGraphLaunch");
}

void GraphCache::capture(int64_t size, GraphKind kind, FunctionRef<void()> work) {
  Entry& entry = entries_[index(size, kind)];
  if (is_full_ || entry.graph) return;
  Captured captured;
  capture_stream(stream_, work, captured);
  const uint64_t free_before = cuda_memory().free_bytes;
  cudaError_t code = cudaGraphInstantiate(&entry.graph, captured.graph, 0);
  if (code == cudaSuccess) code = cudaGraphUpload(entry.graph, stream_);
  if (code == cudaErrorMemoryAllocation) {  // others have taken it: steps do not need graphs
    cudaGetLastError();
    give_up(entry, cudaGetErrorString(code));
    return;
  }
  check(code, "cudaGraphInstantiate");
  const uint64_t free_after = cuda_memory().free_bytes;
  entry.bytes = free_before - std::min(free_before, free_after);
  if (const Result<void> reserved = ledger_.reserve(MemoryUse::kGraphs, entry.bytes); !reserved)
    give_up(entry, reserved.error().message);
}

void GraphCache::give_up(Entry& entry, const std::string& reason) {
  check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");  // the upload
  if (entry.graph)
    check(cudaGraphExecDestroy(std::exchange(entry.graph, nullptr)), "cudaGraphExecDestroy");
  entry.bytes = 0;
  is_full_ = true;
  log_warn("no memory for more CUDA graphs ({}): steps of some sizes run without one", reason);
}

}  // namespace donar::engine

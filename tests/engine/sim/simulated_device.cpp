// Streams, events and graphs of the simulated device, and what tensor/cuda.cpp gives for a real
// one.
#include "tests/engine/sim/simulated_device.h"

#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <deque>
#include <vector>

#include "tensor/cuda_memory.h"

using Work = std::function<void()>;

struct CUgraph_st {
  std::vector<Work> nodes;
};
struct CUgraphExec_st {
  std::vector<Work> nodes;
};
struct CUevent_st {
  CUstream_st* stream = nullptr;
  bool is_done = true;
};
struct CUstream_st {
  std::deque<Work> queue;
  CUgraph_st* captured = nullptr;  // while capturing

  void put(Work work) {
    if (captured) {
      captured->nodes.push_back(std::move(work));
      return;
    }
    queue.push_back(std::move(work));
    if (donar::test::simulated_device().runs_at_once) run();
  }
  void run() {
    while (!queue.empty()) run_one();
  }
  void run_one() {
    const Work work = std::move(queue.front());
    queue.pop_front();
    work();
  }
};

namespace donar::test {

SimulatedDevice& simulated_device() {
  static SimulatedDevice device;
  return device;
}

void put_into_stream(CudaStreamHandle stream, std::function<void()> work) {
  stream->put(std::move(work));
}

}  // namespace donar::test

namespace {

donar::test::SimulatedDevice& device() { return donar::test::simulated_device(); }
cudaError_t outcome() { return device().is_broken ? cudaErrorLaunchFailure : cudaSuccess; }

}  // namespace

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  stream->run();
  return outcome();
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  stream->captured = new CUgraph_st;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = std::exchange(stream->captured, nullptr);
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  ++device().num_events;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->stream = stream;
  event->is_done = false;
  stream->put([event] { event->is_done = true; });
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  while (!event->is_done) event->stream->run_one();
  return outcome();
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  --device().num_events;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* instance, cudaGraph_t graph, uint64_t) {
  if (device().free_bytes < device().graph_bytes) return cudaErrorMemoryAllocation;
  *instance = new CUgraphExec_st{graph->nodes};
  ++device().num_graphs;
  device().free_bytes -= device().graph_bytes;
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t instance, cudaStream_t stream) {
  ++device().num_replays;
  for (const Work& node : instance->nodes) stream->put(node);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t instance) {
  delete instance;
  --device().num_graphs;
  device().free_bytes += device().graph_bytes;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t code) {
  return code == cudaErrorMemoryAllocation ? "out of memory" : "launch failure";
}

namespace donar {

void throw_cuda_error(int code, const char* call) {
  throw CudaError(std::string(call) + ": error " + std::to_string(code));
}
void use_cuda_device(int) {}
CudaMemory cuda_memory() { return {device().free_bytes, 1ull << 34}; }

CudaStream CudaStream::create(const CudaDevice& device) {
  CudaStream stream;
  stream.exec_ = std::make_unique<CudaExec>();
  stream.exec_->stream = new CUstream_st;
  stream.exec_->arch = device.arch;
  stream.exec_->num_sms = device.num_sms;
  return stream;
}
CudaStream::CudaStream(CudaStream&&) noexcept = default;
CudaStream& CudaStream::operator=(CudaStream&& other) noexcept {
  std::swap(exec_, other.exec_);
  return *this;
}
CudaStream::~CudaStream() {
  if (!exec_) return;
  exec_->stream->run();
  delete exec_->stream;
}
void CudaStream::wait() const { cuda_wait(handle()); }

void cuda_wait(CudaStreamHandle stream) {
  if (const cudaError_t code = cudaStreamSynchronize(stream); code != cudaSuccess)
    throw_cuda_error(code, "cudaStreamSynchronize");
}
void cuda_copy(void* to, const void* from, uint64_t bytes, CudaStreamHandle stream) {
  stream->put([=] { std::memcpy(to, from, bytes); });
}
void cuda_fill_zero(void* data, uint64_t bytes, CudaStreamHandle stream) {
  stream->put([=] { std::memset(data, 0, bytes); });
}

Result<void*> cuda_allocate(uint64_t bytes) { return std::calloc(bytes, 1); }
Result<void*> cuda_allocate_pinned(uint64_t bytes) { return std::calloc(bytes, 1); }
void cuda_free(void* data) { std::free(data); }
void cuda_free_pinned(void* data) { std::free(data); }

}  // namespace donar

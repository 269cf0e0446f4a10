#include "bench/ops/cuda_bench.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "base/clock.h"
#include "bench/ops/cuda_ceilings.h"
#include "bench/ops/git_commit.h"

namespace donar::bench {
namespace {

constexpr int kWarmUps = 2;
constexpr int kReplays = 11;
constexpr double kGraphUs = 2000;  // what a launch of a graph costs is lost in it
constexpr int64_t kMaxCalls = 1024;
constexpr uint64_t kArenaBytes = uint64_t{256} << 20;

void check(cudaError_t code, const char* call) {
  if (code != cudaSuccess) throw_cuda_error(code, call);
}

struct Event {
  Event() { check(cudaEventCreate(&handle), "cudaEventCreate"); }
  ~Event() { cudaEventDestroy(handle); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t handle = nullptr;
};

// Times of `replays` runs of what `enqueue` puts into the stream, in us, sorted. Before them it
// runs for `warm_up` seconds, so that the card has the clock that its power limit leaves to this
// work.
template <class Enqueue>
std::vector<double> timed(CudaStreamHandle stream, int replays, double warm_up, Enqueue enqueue) {
  Event begin, end;
  const TimePoint start = Clock::now();
  for (int i = 0; i < kWarmUps || seconds_since(start) < warm_up; ++i) {
    enqueue();
    if (i % kWarmUps == 0) check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  }
  std::vector<double> times;
  for (int i = 0; i < replays; ++i) {
    check(cudaEventRecord(begin.handle, stream), "cudaEventRecord");
    enqueue();
    check(cudaEventRecord(end.handle, stream), "cudaEventRecord");
    check(cudaEventSynchronize(end.handle), "cudaEventSynchronize");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin.handle, end.handle), "cudaEventElapsedTime");
    times.push_back(double{ms} * 1e3);
  }
  std::sort(times.begin(), times.end());
  return times;
}

class Graph {
 public:
  Graph(CudaStreamHandle stream, const std::function<void(int64_t)>& work, int64_t calls) {
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
    for (int64_t i = 0; i < calls; ++i) work(i);
    check(cudaStreamEndCapture(stream, &graph_), "cudaStreamEndCapture");
    check(cudaGraphInstantiate(&instance_, graph_, 0), "cudaGraphInstantiate");
  }
  ~Graph() {
    if (instance_ != nullptr) cudaGraphExecDestroy(instance_);
    if (graph_ != nullptr) cudaGraphDestroy(graph_);
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  void launch(CudaStreamHandle stream) const {
    check(cudaGraphLaunch(instance_, stream), "cudaGraphLaunch");
  }

 private:
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t instance_ = nullptr;
};

CudaDevice opened(int ordinal) {
  const Result<CudaDevice> device = open_cuda_device(ordinal);
  if (!device) throw CudaError(device.error().message);
  return *device;
}

RandomType random_type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return RandomType::kF32;
    case DType::kF16:
      return RandomType::kF16;
    case DType::kBF16:
      return RandomType::kBF16;
    default:
      throw CudaError(fmt::format("no random values of {}", dtype_name(dtype)));
  }
}

}  // namespace

CudaBench::Options CudaBench::parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const std::string value = i + 1 < argc ? argv[i + 1] : "";
    if (arg == "--commit" && !value.empty()) {
      options.commit = value, ++i;
    } else if (arg == "--dtype" && (value == "bf16" || value == "f16")) {
      options.activation = value == "f16" ? DType::kF16 : DType::kBF16, ++i;
    } else if (arg == "--warm-up" && !value.empty()) {
      options.warm_up_s = std::atof(value.c_str()), ++i;
    } else if (arg == "--device" && !value.empty()) {
      options.ordinal = std::atoi(value.c_str()), ++i;
    } else if (arg[0] != '-' && options.filter.empty()) {
      options.filter = arg;
    } else {
      std::fprintf(
          stderr,
          "usage: %s [filter] [--commit ID] [--dtype bf16|f16] [--device N] [--warm-up SECONDS]\n",
          argv[0]);
      std::exit(2);
    }
  }
  if (options.commit.empty()) options.commit = git_commit();
  return options;
}

CudaBench::CudaBench(const Options& options) : options_(options), device_(opened(options.ordinal)) {
  stream_ = std::make_unique<CudaStream>(CudaStream::create(device_));
  Result<Buffer> workspace = Buffer::allocate(ledger_, MemoryUse::kWorkspace, kArenaBytes);
  if (!workspace) throw CudaError(workspace.error().message);
  arena_ = std::make_unique<Arena>(std::move(*workspace));
  ex_.device = DeviceType::kCuda;
  ex_.arena = arena_.get();
  ex_.cuda = &stream_->exec();
  ex_.activation = options.activation;
  measure_ceilings();
  std::printf("%s, %d SMs, %s: read %.0f GB/s, dense bf16 %.0f TFLOP/s\n", device_.name.c_str(),
              device_.num_sms, std::string(dtype_name(ex_.activation)).c_str(),
              ceilings_.read_gb_per_s, ceilings_.bf16_tflops);
}

void CudaBench::measure_ceilings() {
  const CudaExec& exec = *ex_.cuda;
  const uint64_t bytes = std::min(uint64_t{4} << 30, device_.total_bytes / 4) / 16 * 16;
  const TensorView data = random(DType::kBF16, {static_cast<int64_t>(bytes / 2)});
  const TensorView sink = zeros(DType::kF32, {1});
  const std::vector<double> reads = timed(exec.stream, kReplays, options_.warm_up_s, [&] {
    cuda_read(data.data, bytes, static_cast<uint32_t*>(sink.data), exec);
  });
  ceilings_.read_gb_per_s = static_cast<double>(bytes) / reads[reads.size() / 2] / 1e3;
  double operations = 0;
  const std::vector<double> products = timed(exec.stream, kReplays, options_.warm_up_s, [&] {
    operations = cuda_bf16_products(/*iterations=*/4000, sink.as<float>(), exec);
  });
  ceilings_.bf16_tflops = operations / products[products.size() / 2] / 1e6;
  free_tensors();
}

TensorView CudaBench::tensor(DType dtype, std::initializer_list<int64_t> shape) {
  TensorView view(nullptr, dtype, shape);
  Result<Buffer> buffer = Buffer::allocate(ledger_, MemoryUse::kWorkspace,
                                           static_cast<uint64_t>(view.numel()) * dtype_size(dtype));
  if (!buffer) throw CudaError(buffer.error().message);
  view.data = buffer->data();
  buffers_.push_back(std::move(*buffer));
  return view;
}

TensorView CudaBench::zeros(DType dtype, std::initializer_list<int64_t> shape) {
  return tensor(dtype, shape);
}

TensorView CudaBench::random(DType dtype, std::initializer_list<int64_t> shape, float deviation) {
  const TensorView view = tensor(dtype, shape);
  cuda_fill_random(view.data, view.numel(), random_type(dtype), seed_++, deviation, *ex_.cuda);
  return view;
}

TensorView CudaBench::upload(const std::vector<int32_t>& values) {
  const TensorView view = tensor(DType::kI32, {static_cast<int64_t>(values.size())});
  cuda_copy(view.data, values.data(), values.size() * sizeof(int32_t), ex_.cuda->stream);
  stream_->wait();
  return view;
}

TensorView CudaBench::upload(const std::vector<float>& values) {
  const TensorView view = tensor(DType::kF32, {static_cast<int64_t>(values.size())});
  cuda_copy(view.data, values.data(), values.size() * sizeof(float), ex_.cuda->stream);
  stream_->wait();
  return view;
}

std::vector<float> CudaBench::download(const TensorView& view) {
  std::vector<float> values(static_cast<size_t>(view.numel()));
  std::vector<uint16_t> bits(view.dtype == DType::kF32 ? 0 : values.size());
  void* to = view.dtype == DType::kF32 ? static_cast<void*>(values.data()) : bits.data();
  cuda_copy(to, view.data, values.size() * dtype_size(view.dtype), ex_.cuda->stream);
  stream_->wait();
  for (size_t i = 0; i < bits.size(); ++i)
    values[i] = view.dtype == DType::kF16
                    ? f16_to_f32(bits[i])
                    : std::bit_cast<float>(static_cast<uint32_t>(bits[i]) << 16);
  return values;
}

void CudaBench::free_tensors() {
  stream_->wait();
  buffers_.clear();
}

int64_t CudaBench::cold_copies(uint64_t bytes) const {
  const uint64_t wanted = 4 * std::max<uint64_t>(device_.l2_bytes, 1);
  return static_cast<int64_t>(
      std::clamp<uint64_t>((wanted + bytes - 1) / std::max<uint64_t>(bytes, 1), 1, 256));
}

CudaBench::Time CudaBench::measure(const std::function<void(int64_t)>& work, int64_t copies) {
  CudaStreamHandle stream = ex_.cuda->stream;
  work(0);  // sets the attributes of its kernels and loads them
  stream_->wait();
  const auto replays = [&](int64_t calls, int count, double warm_up) {
    const Graph graph(stream, work, calls);
    std::vector<double> times = timed(stream, count, warm_up, [&] { graph.launch(stream); });
    for (double& time : times) time /= static_cast<double>(calls);
    return times;
  };
  const double first = replays(std::max<int64_t>(copies, 4), 3, 0)[1];
  const auto enough = static_cast<int64_t>(std::ceil(kGraphUs / std::max(first, 1e-3)));
  const int64_t calls =
      std::max(copies, std::clamp<int64_t>((enough + copies - 1) / copies * copies, 1, kMaxCalls));
  const std::vector<double> times = replays(calls, kReplays, options_.warm_up_s);
  return {times[times.size() / 2], times.front(), static_cast<int>(calls)};
}

void CudaBench::report(const std::string& name, Time time, double bytes, double operations,
                       const std::string& extra) {
  const double gb = bytes / time.us / 1e3;
  const double tflops = operations / time.us / 1e6;
  const double of_read = 100 * gb / ceilings_.read_gb_per_s;
  const double of_peak = ceilings_.bf16_tflops > 0 ? 100 * tflops / ceilings_.bf16_tflops : 0;
  std::printf("%-52s %9.2f us %8.1f GB/s %5.1f %%", name.c_str(), time.us, gb, of_read);
  if (operations > 0) std::printf(" %7.1f TFLOP/s %5.1f %%", tflops, of_peak);
  std::printf("\n");
  std::printf(
      "{\"bench\":\"cuda_ops\",\"case\":\"%s\",\"device\":\"%s\",\"commit\":\"%s\",\"dtype\":\"%"
      "s\","
      "\"us\":%.3f,\"best_us\":%.3f,\"calls\":%d,\"bytes\":%.0f,\"gb_per_s\":%.2f,"
      "\"read_ceiling_gb_per_s\":%.1f,\"share_of_read\":%.4f,\"tflops\":%.2f,"
      "\"bf16_ceiling_tflops\":%.1f,\"share_of_bf16\":%.4f%s}\n",
      name.c_str(), device_.name.c_str(), options_.commit.c_str(),
      std::string(dtype_name(ex_.activation)).c_str(), time.us, time.best_us, time.calls, bytes, gb,
      ceilings_.read_gb_per_s, of_read / 100, tflops, ceilings_.bf16_tflops, of_peak / 100,
      extra.c_str());
  std::fflush(stdout);
}

void CudaBench::expect(bool correct, const std::string& name) {
  if (correct) return;
  all_correct_ = false;
  std::printf("%s: WRONG RESULT\n", name.c_str());
}

int run_cuda_bench(int argc, char** argv, void (*cases)(CudaBench&)) {
  const CudaBench::Options options = CudaBench::parse(argc, argv);
  try {
    CudaBench bench(options);
    cases(bench);
    return bench.status();
  } catch (const CudaError& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

}  // namespace donar::bench

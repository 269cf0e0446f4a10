#include "bench/ops/cpu_bench.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "base/clock.h"
#include "bench/ops/git_commit.h"
#include "ops/cpu/ops.h"

namespace donar::bench {
namespace {

constexpr int64_t kColdBytes = int64_t{1} << 30;
constexpr int64_t kCopyAlignment = 256;
constexpr double kCaseSeconds = 0.4;
constexpr double kShortRun = 50e-6;  // runs below this are timed in groups, for the clock's sake
constexpr double kGroup = 200e-6;    // and so that a peer's data do not stay in the caches
constexpr size_t kMinTimes = 7, kMaxTimes = 20000;
constexpr int kMaxThreads = 4096;

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  std::ifstream board("/proc/device-tree/model");
  std::string name;
  std::getline(board, name, '\0');
  return name.empty() ? "unknown" : name;
}

[[noreturn]] void fail(const std::string& sentence) {
  std::fprintf(stderr, "bench_ops: %s\n", sentence.c_str());
  std::exit(2);
}

CpuIsa isa_named(const std::string& name) {
  std::vector<std::string> here;
  for (CpuIsa isa : kCpuIsas) {
    if (!cpu_runs(isa)) continue;
    if (name == cpu_isa_name(isa)) return isa;
    here.emplace_back(cpu_isa_name(isa));
  }
  fail(fmt::format("--isa {}: this machine runs {}", name, fmt::join(here, ", ")));
}

int thread_count(const std::string& text) {
  int count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end != text.data() + text.size() || count < 1 || count > kMaxThreads)
    fail(fmt::format("--threads {}: a number from 1 to {} is wanted", text, kMaxThreads));
  return count;
}

// Seconds of one of `count` runs from number `next` on.
double timed(const CpuBench::Run& run, int64_t count, int64_t& next) {
  const TimePoint start = Clock::now();
  for (int64_t i = 0; i < count; ++i) run(next++);
  return seconds_since(start) / static_cast<double>(count);
}

class Series {
 public:
  // Runs it a few times first.
  explicit Series(const CpuBench::Run& run) : run_(run) {
    timed(run_, 1, next_);
    const double once = std::min(timed(run_, 1, next_), timed(run_, 1, next_));
    if (once < kShortRun)
      group_ = std::max<int64_t>(static_cast<int64_t>(kGroup / (once + 1e-9)), 1);
  }
  void take() { times_.push_back(timed(run_, group_, next_)); }
  size_t size() const { return times_.size(); }
  CpuBench::Time time() {
    const auto middle = times_.begin() + static_cast<std::ptrdiff_t>(times_.size() / 2);
    std::nth_element(times_.begin(), middle, times_.end());
    return {*middle * 1e6, *std::ranges::min_element(times_) * 1e6,
            static_cast<int64_t>(times_.size()) * group_};
  }

 private:
  const CpuBench::Run& run_;
  int64_t next_ = 0;
  int64_t group_ = 1;
  std::vector<double> times_;
};

// A column of the table; "-" where there is no ceiling.
std::string percent(double share) {
  return share > 0 ? fmt::format("{:.1f} %", 100 * share) : std::string("-");
}

std::string escaped(const std::string& text) {
  std::string result;
  for (char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return result;
}

}  // namespace

CpuBench::Options CpuBench::parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 == argc) fail(arg + ": a value is wanted");
      return argv[++i];
    };
    if (arg == "--threads") {
      options.threads = thread_count(value());
    } else if (arg == "--isa") {
      options.isa = isa_named(value());
    } else if (arg == "--commit") {
      options.commit = value();
    } else if (!arg.starts_with('-')) {
      options.filters.push_back(arg);
    } else {
      fail(arg +
           ": unknown; usage: bench_ops [filter...] [--threads N] [--isa NAME] [--commit ID]");
    }
  }
  if (options.commit.empty()) options.commit = git_commit();
  return options;
}

CpuBench::CpuBench(Options options)
    : options_(std::move(options)),
      device_(cpu_name()),
      pool_(options_.threads),
      arena_(*Buffer::allocate(ledger_, MemoryUse::kWorkspace, uint64_t{256} << 20)),
      ceilings_(measure_ceilings(pool_, options_.isa)),
      copies_(*Buffer::allocate(ledger_, MemoryUse::kWeights, uint64_t{kColdBytes})),
      matched_(options_.filters.size()) {
  ex_.isa = options_.isa;
  ex_.pool = &pool_;
  ex_.arena = &arena_;
  fmt::print(
      "{}, {}, {} threads: read {:.1f} GB/s, int8 {:.2f} TOP/s, f32 {:.2f}, bf16 {:.2f} "
      "TFLOP/s\n",
      device_, cpu_isa_name(options_.isa), options_.threads, ceilings_.read_gb_per_s,
      ceilings_.int8_tops, ceilings_.f32_tflops, ceilings_.bf16_tflops);
  fmt::print("{:48} {:>9} {:>9} {:>7} {:>8} {:>7} {:>8}\n", "", "median us", "best us", "GB/s",
             "of plain", "TOP/s", "of peak");
}

bool CpuBench::wanted(const std::string& name) {
  const std::string op = name.substr(0, name.find(' '));
  if (std::ranges::find(ops_, op) == ops_.end()) ops_.push_back(op);
  bool any = options_.filters.empty();
  for (size_t i = 0; i < matched_.size(); ++i) {
    if (name.find(options_.filters[i]) == std::string::npos) continue;
    matched_[i] = true;
    any = true;
  }
  return any;
}

double CpuBench::peak_of(quant::Format format) const {
  if (format == quant::Format::kBF16) return ceilings_.bf16_tflops;
  if (format == quant::Format::kF32 || format == quant::Format::kF16) return ceilings_.f32_tflops;
  return ceilings_.int8_tops;
}

CpuBench::Copies CpuBench::cold_copies(int64_t bytes) const {
  const int64_t stride = (bytes + kCopyAlignment - 1) / kCopyAlignment * kCopyAlignment;
  DONAR_CHECK(bytes > 0 && stride <= kColdBytes, "a case of {} bytes", bytes);
  return {copies_.data(), bytes, stride, kColdBytes / stride};
}

void CpuBench::Copies::repeat_first() const {
  for (int64_t i = 1; i < count; ++i) std::memcpy(at(i), data, static_cast<size_t>(bytes));
}

CpuBench::Timed CpuBench::measure(const Run& run, const Run* peer, double peer_bytes) {
  Series runs(run);
  const TimePoint begin = Clock::now();
  const auto more = [&] {
    return runs.size() < kMinTimes ||
           (seconds_since(begin) < kCaseSeconds && runs.size() < kMaxTimes);
  };
  if (peer == nullptr) {
    while (more()) runs.take();
    return {runs.time(), {}, 0};
  }
  Series peers(*peer);
  while (more()) {
    runs.take();
    peers.take();
  }
  return {runs.time(), peers.time(), peer_bytes};
}

CpuBench::Timed CpuBench::measure(const Run& run) { return measure(run, nullptr, 0); }

CpuBench::Timed CpuBench::measure_beside_read(const Run& run, const Copies& data) {
  const Run peer = [&](int64_t i) {  // far from the copy that the run has just used
    sink_ += read_all(pool_, options_.isa, data.at(i + data.count / 2), data.bytes);
  };
  return measure(run, &peer, static_cast<double>(data.bytes));
}

CpuBench::Timed CpuBench::measure_beside_copy(const Run& run, int64_t bytes, bool one_thread) {
  constexpr int64_t kRow = 256;  // bytes
  const int64_t rows = std::max<int64_t>(bytes / 2 / kRow, 1);
  // Apart by half a page more than whole ones: loads do not wait for stores that look alike.
  constexpr int64_t kPage = 4096;
  const int64_t apart = (rows * kRow + kPage - 1) / kPage * kPage + kPage / 2;
  std::vector<std::byte> memory(static_cast<size_t>(apart + rows * kRow));
  std::byte* const from = memory.data();
  std::byte* const to = from + apart;
  const int64_t grain =
      one_thread ? rows : ops::cpu::rows_per_piece(ex_, rows, kRow / int64_t{sizeof(float)});
  const Run peer = [&](int64_t) {
    pool_.parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
      std::memcpy(to + begin * kRow, from + begin * kRow,
                  static_cast<size_t>((end - begin) * kRow));
    });
  };
  return measure(run, &peer, static_cast<double>(2 * rows * kRow));
}

void CpuBench::report(const std::string& name, const Timed& time, const Cost& cost, bool correct) {
  // Medians beside medians, as both saw the same machine; the best run beside the peak, which is of
  // the best round.
  const double gb = cost.bytes / time.run.us / 1e3;
  const double peer_gb = time.peer_bytes > 0 ? time.peer_bytes / time.peer.us / 1e3 : 0;
  const double of_peer = peer_gb > 0 ? gb / peer_gb : 0;
  const double tera = cost.operations / time.run.best_us / 1e6;
  const double of_peak = cost.tera_peak > 0 ? tera / cost.tera_peak : 0;
  fmt::print("{:48} {:>9.1f} {:>9.1f} {:>7.1f} {:>8} {:>7.3f} {:>8}  {}\n", name, time.run.us,
             time.run.best_us, gb, percent(of_peer), tera, percent(of_peak),
             correct ? "ok" : "WRONG");
  fmt::print(
      "{{\"bench\":\"ops\",\"case\":\"{}\",\"device\":\"{}\",\"commit\":\"{}\",\"isa\":\"{}\","
      "\"threads\":{},\"us\":{:.3f},\"best_us\":{:.3f},\"runs\":{},\"gb_per_s\":{:.2f},"
      "\"peer_gb_per_s\":{:.2f},\"tera_ops\":{:.4f},\"peak_tera_ops\":{:.4f},\"of_peer\":{:.4f},"
      "\"of_peak\":{:.4f},\"share\":{:.4f},\"correct\":{}}}\n",
      escaped(name), escaped(device_), escaped(options_.commit), cpu_isa_name(options_.isa),
      options_.threads, time.run.us, time.run.best_us, time.run.runs, gb, peer_gb, tera,
      cost.tera_peak, of_peer, of_peak, std::max(of_peer, of_peak), correct);
  std::fflush(stdout);
  num_wrong_ += correct ? 0 : 1;
}

int CpuBench::status() const {
  for (size_t i = 0; i < matched_.size(); ++i) {
    if (matched_[i]) continue;
    std::fprintf(stderr, "%s\n",
                 fmt::format("bench_ops: no case's name contains \"{}\"; names begin with {}",
                             options_.filters[i], fmt::join(ops_, ", "))
                     .c_str());
    return 2;
  }
  if (num_wrong_ == 0) return 0;
  std::fprintf(stderr, "bench_ops: results of %d cases are WRONG: see the table\n", num_wrong_);
  return 1;
}

}  // namespace donar::bench

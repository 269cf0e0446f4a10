// Every CPU operation: verified against the reference, then timed beside the machine's ceilings of
// the same minute. Prints a table (rates are of the best run) and one JSON line per case.
// ./bench_ops [--threads N] [--isa portable|avx2|...] [filter]
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/clock.h"
#include "bench/ops/ceilings.h"
#include "ops/add_rms_norm.h"
#include "ops/embedding.h"
#include "ops/linear.h"
#include "ops/paged_attention.h"
#include "ops/qk_norm_rope_store.h"
#include "ops/silu_mul.h"
#include "tests/ops/reference.h"

namespace donar::bench {
namespace {

struct Options {
  int threads = available_cpus();
  CpuIsa isa = detect_cpu_isa();
  std::string filter;
};

struct Measured {
  double seconds;  // of one run, median
  double best;     // the fastest one: what a busy machine leaves to be seen
  int runs;
};

// Runs until 0.3 s have passed, at least 7 times; `run(i)` may use another copy of its data each
// time, so that caches are cold.
template <class Run>
Measured median_of(Run run) {
  run(0);
  std::vector<double> times;
  const TimePoint begin = Clock::now();
  for (int i = 1; times.size() < 7 || (seconds_since(begin) < 0.3 && times.size() < 20000); ++i) {
    const TimePoint start = Clock::now();
    run(i);
    times.push_back(seconds_since(start));
  }
  std::nth_element(times.begin(), times.begin() + static_cast<long>(times.size() / 2), times.end());
  return {times[times.size() / 2], *std::min_element(times.begin(), times.end()),
          static_cast<int>(times.size())};
}

class Bench {
 public:
  explicit Bench(const Options& options)
      : options_(options),
        pool_(options.threads),
        arena_(*Buffer::allocate(ledger_, MemoryUse::kWorkspace, uint64_t{256} << 20)) {
    ex_.isa = options.isa;
    ex_.pool = &pool_;
    ex_.arena = &arena_;
    ceilings_ = measure_ceilings(pool_, options.isa);
    std::printf("%s, %d threads: read %.1f GB/s, int8 %.2f TOP/s, f32 %.2f, bf16 %.2f TFLOP/s\n",
                cpu_isa_name(options.isa), options.threads, ceilings_.read_gb_per_s,
                ceilings_.int8_tops, ceilings_.f32_tflops, ceilings_.bf16_tflops);
  }

  bool wanted(const std::string& name) const {
    return name.find(options_.filter) != std::string::npos;
  }
  double peak_of(quant::Format format) const {
    const bool is_float = format == quant::Format::kF32 || format == quant::Format::kF16;
    if (format == quant::Format::kBF16) return ceilings_.bf16_tflops;
    return is_float ? ceilings_.f32_tflops : ceilings_.int8_tops;
  }

  // tera_peak: the arithmetic ceiling of the case in 1e12 operations per second; 0: none known.
  void report(const std::string& name, Measured time, double bytes, double operations,
              double tera_peak, bool correct) {
    const double gb = bytes / time.best / 1e9;
    const double tera = operations / time.best / 1e12;
    const double of_bandwidth = 100 * gb / ceilings_.read_gb_per_s;
    const double of_peak = tera_peak > 0 ? 100 * tera / tera_peak : 0;
    std::printf("%-44s %10.1f us best %10.1f %7.1f GB/s %5.1f %% %9.3f TOP/s %5.1f %%  %s\n",
                name.c_str(), time.seconds * 1e6, time.best * 1e6, gb, of_bandwidth, tera, of_peak,
                correct ? "ok" : "WRONG");
    std::printf(
        "{\"bench\":\"ops\",\"case\":\"%s\",\"isa\":\"%s\",\"threads\":%d,\"us\":%.3f,\"best_us\":%"
        ".3f,\"runs\":%d,\"gb_per_s\":%.2f,"
        "\"read_ceiling_gb_per_s\":%.2f,\"tera_ops\":%.4f,\"peak_tera_ops\":%.4f,\"correct\":%s}\n",
        name.c_str(), cpu_isa_name(options_.isa), options_.threads, time.seconds * 1e6,
        time.best * 1e6, time.runs, gb, ceilings_.read_gb_per_s, tera, tera_peak,
        correct ? "true" : "false");
    all_correct_ = all_correct_ && correct;
  }
  bool all_correct() const { return all_correct_; }

  void linear(quant::Format format, int64_t n, int64_t k, int64_t rows);
  void attention(int q_heads, int kv_heads, int head_dim, int context, int rows, int sequences);
  void row_ops(int64_t rows, int64_t dim, int64_t ffn);
  void embedding(quant::Format format, int64_t dim, int64_t rows);
  void repack(quant::Format format, int64_t n, int64_t k);
  void fork();

 private:
  Options options_;
  MemoryLedger ledger_;
  ThreadPool pool_;
  Arena arena_;
  Exec ex_;
  Ceilings ceilings_;
  bool all_correct_ = true;
};

TensorView floats(std::vector<float>& values, std::initializer_list<int64_t> shape) {
  return {values.data(), DType::kF32, shape};
}
TensorView ints(std::vector<int32_t>& values, std::initializer_list<int64_t> shape) {
  return {values.data(), DType::kI32, shape};
}

// Random bytes with finite scales would do for timing, but the check wants real rows: 16 of them,
// repeated.
void Bench::linear(quant::Format format, int64_t n, int64_t k, int64_t rows) {
  const std::string name =
      fmt::format("linear {} {}x{} rows {}", quant::info(format).name, n, k, rows);
  if (!wanted(name)) return;
  constexpr int64_t kDistinct = 16;
  const reference::StoredMatrix stored = reference::random_matrix(format, kDistinct, k, 1);
  const int64_t bytes = ops::packed_bytes(format, quant::Layout::kRows16, n, k);
  // Enough copies that one run finds nothing of the last ones in the caches; a step's weights are
  // read once.
  const int64_t copies = std::max<int64_t>((int64_t{600} << 20) / bytes, 1);
  const Buffer weights =
      *Buffer::allocate(ledger_, MemoryUse::kWeights, static_cast<uint64_t>(bytes * copies));
  for (int64_t row = 0; row < n; row += kDistinct) {
    ops::repack_rows(format, quant::Layout::kRows16, n, k, row, std::min(kDistinct, n - row),
                     stored.row(0), weights.data());
  }
  for (int64_t i = 1; i < copies; ++i)
    std::copy_n(weights.data(), bytes, weights.data() + i * bytes);
  std::vector<float> x = reference::random_floats(rows * k, 2);
  std::vector<float> y(static_cast<size_t>(rows * n));
  const auto run = [&](int64_t i) {
    const quant::LinearWeight weight{
        format, quant::Layout::kRows16, n, k, weights.data() + i % copies * bytes, nullptr};
    ops::linear(ex_, floats(x, {rows, k}), {{weight}, 1}, floats(y, {rows, n}));
  };
  const Measured time = median_of(run);
  bool correct = true;
  for (int64_t r = 0; r < rows; r += std::max<int64_t>(rows / 3, 1)) {
    const auto input = reference::rounded_input(&x[static_cast<size_t>(r * k)], k, format);
    for (int64_t i = 0; i < n; i += 37) {
      const reference::Sum sum = reference::dot(input, stored.row_values(i % kDistinct));
      const double error = std::fabs(y[static_cast<size_t>(r * n + i)] - sum.value);
      correct = correct && error <= 1e-5 * sum.magnitude;
    }
  }
  report(name, time, static_cast<double>(bytes), 2.0 * static_cast<double>(n * k * rows),
         peak_of(format), correct);
}

void Bench::attention(int q_heads, int kv_heads, int head_dim, int context, int rows,
                      int sequences) {
  const std::string name = fmt::format("attention {}/{}x{} context {} rows {} seqs {}", q_heads,
                                       kv_heads, head_dim, context, rows, sequences);
  if (!wanted(name)) return;
  const int blocks = (context + 15) / 16;
  const int64_t elements = int64_t{blocks} * sequences * 2 * kv_heads * 16 * head_dim;
  // Several layers, visited in turn as in a step.
  const int64_t layers = std::clamp<int64_t>((int64_t{256} << 20) / (elements * 2), 1, 32);
  std::vector<bf16> cache(static_cast<size_t>(elements * layers));
  std::mt19937 generator(3);
  std::normal_distribution<float> normal;
  for (size_t i = 0; i < cache.size(); ++i)
    cache[i] = i < 100003 ? bf16(normal(generator)) : cache[i % 100003];
  std::vector<int32_t> positions, starts = {0}, tables;
  for (int s = 0; s < sequences; ++s) {
    for (int r = 0; r < rows; ++r) positions.push_back(context - rows + r);
    for (int b = 0; b < blocks; ++b) tables.push_back(s * blocks + b);
    starts.push_back(static_cast<int32_t>(positions.size()));
  }
  const int64_t total = int64_t{rows} * sequences;
  const int64_t width = int64_t{q_heads} * head_dim;
  std::vector<float> q = reference::random_floats(total * width, 4);
  std::vector<float> out(static_cast<size_t>(total * width));
  const ops::AttentionParams params{.q_heads = q_heads,
                                    .scale = 1.0f / std::sqrt(static_cast<float>(head_dim))};
  const auto layer = [&](int64_t i) {
    return kv::KvLayer{cache.data() + i % layers * elements, DType::kBF16,
                       int64_t{blocks} * sequences, kv_heads, head_dim};
  };
  const auto run = [&](int64_t i) {
    ops::paged_attention(ex_, floats(q, {total, width}), ints(positions, {total}),
                         ints(starts, {sequences + 1}), ints(tables, {sequences, blocks}), {},
                         layer(i), params, floats(out, {total, width}));
  };
  const Measured time = median_of(run);
  run(0);
  bool correct = true;
  for (int64_t r = 0; r < total; r += std::max<int64_t>(total / 5, 1)) {
    const int head = static_cast<int>(r) % q_heads;
    std::vector<double> spread;
    const auto expected = reference::attend(
        &q[static_cast<size_t>(r * width + head * head_dim)], positions[static_cast<size_t>(r)],
        &tables[static_cast<size_t>(r / rows * blocks)], layer(0), head / (q_heads / kv_heads),
        params, head, &spread);
    for (int d = 0; d < head_dim; ++d) {
      const double value = expected[static_cast<size_t>(d)];
      correct = correct &&
                std::fabs(out[static_cast<size_t>(r * width + head * head_dim + d)] - value) <
                    reference::attention_tolerance(layer(0), value, spread[static_cast<size_t>(d)]);
    }
  }
  double keys = 0;
  for (int32_t position : positions) keys += position + 1;
  report(name, time, static_cast<double>(elements) * 2, 4.0 * keys * q_heads * head_dim,
         ceilings_.f32_tflops, correct);
}

void Bench::row_ops(int64_t rows, int64_t dim, int64_t ffn) {
  std::vector<float> x = reference::random_floats(rows * dim, 5),
                     delta = reference::random_floats(rows * dim, 6, 1e-3f);
  std::vector<float> weight = reference::random_floats(dim, 7), y(static_cast<size_t>(rows * dim));
  std::string name = fmt::format("add_rms_norm {} rows {}", dim, rows);
  if (wanted(name)) {
    const Measured time = median_of([&](int64_t) {
      ops::add_rms_norm(ex_, floats(x, {rows, dim}), floats(delta, {rows, dim}),
                        floats(weight, {dim}), 1e-5f, floats(y, {rows, dim}));
    });
    std::vector<float> row(x.begin(), x.begin() + dim);
    std::vector<double> expected(static_cast<size_t>(dim));
    reference::add_rms_norm(row.data(), nullptr, weight.data(), 1e-5f, dim, expected.data());
    bool correct = true;
    for (size_t i = 0; i < expected.size(); ++i)
      correct = correct && std::fabs(y[i] - expected[i]) < 1e-5 * (1 + std::fabs(expected[i]));
    report(name, time, static_cast<double>(rows * dim) * 16, static_cast<double>(rows * dim) * 5, 0,
           correct);
  }
  name = fmt::format("silu_mul {} rows {}", ffn, rows);
  if (wanted(name)) {
    std::vector<float> gate_up = reference::random_floats(rows * 2 * ffn, 8, 3.0f),
                       out(static_cast<size_t>(rows * ffn));
    const Measured time = median_of([&](int64_t) {
      ops::silu_mul(ex_, floats(gate_up, {rows, 2 * ffn}), floats(out, {rows, ffn}));
    });
    bool correct = true;
    for (int64_t i = 0; i < ffn; ++i) {
      const double expected = reference::silu_mul(gate_up[static_cast<size_t>(i)],
                                                  gate_up[static_cast<size_t>(ffn + i)]);
      correct = correct && std::fabs(out[static_cast<size_t>(i)] - expected) <
                               1e-6 * (1 + std::fabs(expected));
    }
    report(name, time, static_cast<double>(rows * ffn) * 12, static_cast<double>(rows * ffn) * 20,
           0, correct);
  }
  name = fmt::format("qk_norm_rope_store 9/3x64 rows {}", rows);
  if (wanted(name)) {
    const int q_heads = 9, kv_heads = 3, head_dim = 64;
    const int64_t width = (q_heads + 2 * kv_heads) * head_dim;
    std::vector<float> qkv = reference::random_floats(rows * width, 9),
                       angles(static_cast<size_t>(rows * head_dim));
    const std::vector<float> before = qkv;
    for (int64_t p = 0; p < rows; ++p) {
      for (int i = 0; i < head_dim / 2; ++i) {
        const double angle = static_cast<double>(p) * std::pow(10000.0, -2.0 * i / head_dim);
        angles[static_cast<size_t>(p * head_dim + i)] = static_cast<float>(std::cos(angle));
        angles[static_cast<size_t>(p * head_dim + head_dim / 2 + i)] =
            static_cast<float>(std::sin(angle));
      }
    }
    std::vector<int32_t> index;
    for (int32_t i = 0; i < rows; ++i) index.push_back(i);
    std::vector<bf16> cache(static_cast<size_t>((rows + 15) / 16 * 2 * kv_heads * 16 * head_dim));
    const kv::KvLayer layer{cache.data(), DType::kBF16, (rows + 15) / 16, kv_heads, head_dim};
    const auto run = [&](int64_t) {
      ops::qk_norm_rope_store(ex_, floats(qkv, {rows, width}), ints(index, {rows}),
                              ints(index, {rows}), {}, {}, 1e-6f,
                              floats(angles, {rows, 2, head_dim / 2}), q_heads, layer);
    };
    run(0);
    const int64_t last = rows - 1;
    const auto expected =
        reference::norm_rope(&before[static_cast<size_t>(last * width)], nullptr, 0,
                             &angles[static_cast<size_t>(last * head_dim)], head_dim);
    bool correct = true;
    for (size_t d = 0; d < expected.size(); ++d)
      correct =
          correct && std::fabs(qkv[static_cast<size_t>(last * width) + d] - expected[d]) < 1e-5;
    const Measured time = median_of(run);  // rotating again and again keeps the magnitude
    report(name, time, static_cast<double>(rows * width) * 6, static_cast<double>(rows * width) * 6,
           0, correct);
  }
}

void Bench::embedding(quant::Format format, int64_t dim, int64_t rows) {
  const std::string name =
      fmt::format("embedding {} {} rows {}", quant::info(format).name, dim, rows);
  if (!wanted(name)) return;
  const int64_t vocab = 4096;
  const reference::StoredMatrix stored = reference::random_matrix(format, vocab, dim, 10);
  std::vector<std::byte> packed(
      static_cast<size_t>(ops::packed_bytes(format, quant::Layout::kRows16, vocab, dim)));
  ops::repack_rows(format, quant::Layout::kRows16, vocab, dim, 0, vocab, stored.row(0),
                   packed.data());
  const quant::LinearWeight table{format, quant::Layout::kRows16, vocab,
                                  dim,    packed.data(),          nullptr};
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < rows; ++i) ids.push_back(static_cast<int32_t>(i * 2654435761u % vocab));
  std::vector<float> y(static_cast<size_t>(rows * dim));
  const Measured time = median_of([&](int64_t) {
    ops::embedding(ex_, ints(ids, {rows}), table, floats(y, {rows, dim}));
  });
  const std::vector<float> expected = stored.row_values(ids.back());
  const bool correct =
      std::equal(expected.begin(), expected.end(), y.end() - static_cast<long>(dim));
  report(name, time, static_cast<double>(rows * quant::row_bytes(format, dim)),
         static_cast<double>(rows * dim), 0, correct);
}

// Loading: file rows to the kernels' layout, on one thread.
void Bench::repack(quant::Format format, int64_t n, int64_t k) {
  const std::string name = fmt::format("repack {} {}x{}", quant::info(format).name, n, k);
  if (!wanted(name)) return;
  const reference::StoredMatrix stored = reference::random_matrix(format, n, k, 11);
  std::vector<std::byte> packed(
      static_cast<size_t>(ops::packed_bytes(format, quant::Layout::kRows16, n, k)));
  const Measured time = median_of([&](int64_t) {
    std::fill(packed.begin(), packed.end(), std::byte{0});
    ops::repack_rows(format, quant::Layout::kRows16, n, k, 0, n, stored.row(0), packed.data());
  });
  std::vector<float> row(static_cast<size_t>(k));
  ops::unpack_packed_row({format, quant::Layout::kRows16, n, k, packed.data(), nullptr}, n - 1,
                         row.data());
  report(name, time, static_cast<double>(stored.bytes.size()), static_cast<double>(n * k), 0,
         row == stored.row_values(n - 1));
}

void Bench::fork() {
  if (!wanted("fork")) return;
  std::atomic<int64_t> pieces{0};
  int64_t runs = 0;
  const Measured time = median_of([&](int64_t) {
    pool_.parallel_for(pool_.num_threads() * 4, 1,
                       [&](int64_t, int64_t) { pieces.fetch_add(1, std::memory_order_relaxed); });
    ++runs;
  });
  report("fork and join, 4 pieces per thread", time, 0, 0, 0,
         pieces == runs * pool_.num_threads() * 4);
}

int run(const Options& options) {
  using quant::Format;
  Bench bench(options);
  bench.fork();
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{2048, 2048}, {8192, 2048}, {2048, 8192}}) {
    for (const quant::FormatInfo& format : quant::formats())
      for (int64_t rows : {1, 8, 256}) bench.linear(format.format, n, k, rows);
  }
  for (Format format : {Format::kQ4_0, Format::kQ8_0, Format::kBF16}) {
    for (int64_t rows : {16, 64, 1024}) bench.linear(format, 8192, 2048, rows);
  }
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{960, 576},
                             {576, 576},
                             {3072, 576},
                             {576, 1536}}) {  // SmolLM2-135M
    for (int64_t rows : {1, 8, 256}) bench.linear(Format::kQ4_1, n, k, rows);
  }
  for (int64_t rows : {1, 8}) bench.linear(Format::kQ8_0, 49152, 576, rows);
  for (int context : {128, 1024, 4096}) bench.attention(9, 3, 64, context, 1, 1);
  for (int context : {128, 4096}) bench.attention(32, 8, 64, context, 1, 1);
  bench.attention(32, 8, 128, 4096, 1, 1);
  bench.attention(9, 3, 64, 256, 256, 1);
  bench.attention(32, 8, 64, 2048, 256, 1);
  bench.attention(32, 8, 64, 1024, 1, 8);
  for (int64_t rows : {1, 8, 256}) bench.row_ops(rows, 576, 1536);
  for (int64_t rows : {1, 256}) bench.embedding(Format::kQ8_0, 576, rows);
  for (const quant::FormatInfo& format : quant::formats()) bench.repack(format.format, 2048, 2048);
  if (!bench.all_correct()) std::fprintf(stderr, "a result is wrong: see the table\n");
  return bench.all_correct() ? 0 : 1;
}

}  // namespace
}  // namespace donar::bench

int main(int argc, char** argv) {
  donar::bench::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--threads" && i + 1 < argc) {
      options.threads = std::max(std::atoi(argv[++i]), 1);
    } else if (arg == "--isa" && i + 1 < argc) {
      const std::string name = argv[++i];
      bool known = false;
      std::string here;
      for (donar::CpuIsa isa : donar::kCpuIsas) {
        if (!donar::cpu_runs(isa)) continue;
        here += std::string(here.empty() ? "" : ", ") + donar::cpu_isa_name(isa);
        if (name != donar::cpu_isa_name(isa)) continue;
        known = true;
        options.isa = isa;
      }
      if (!known) {
        std::fprintf(stderr, "--isa %s: this machine runs %s\n", name.c_str(), here.c_str());
        return 2;
      }
    } else if (arg[0] != '-') {
      options.filter = arg;
    } else {
      std::fprintf(stderr, "usage: bench_ops [--threads N] [--isa NAME] [filter]\n");
      return 2;
    }
  }
  return donar::bench::run(options);
}

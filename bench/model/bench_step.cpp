// The whole step without the engine: decoder, head, and nothing else, with made-up weights of a
// config's shape. What is lost between this and a served token is the engine's and the server's.
//   bench_step CONFIG_DIR [--decode ROWS:CONTEXT,...] [--prefill TOKENS[xPROMPTS],...]
//              [--warm-up SECONDS] [--commit ID]
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <sstream>

#include "base/clock.h"
#include "bench/ops/cuda_bench.h"
#include "model/decoder.h"
#include "model/model.h"
#include "ops/activation.h"

namespace donar::bench {
namespace {

struct Arguments {
  std::string config;
  std::vector<std::pair<int, int>> decode{{1, 128}, {1, 8192}, {8, 256}, {32, 256}, {64, 256}};
  std::vector<std::pair<int, int>> prefill{{32, 1}, {512, 1}, {2048, 1}};  // tokens of one, prompts
  std::string commit;
  double warm_up_s = 0;
};

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> items;
  std::stringstream stream(text);
  for (std::string item; std::getline(stream, item, ',');) items.push_back(item);
  return items;
}

[[noreturn]] void usage() {
  fmt::print(stderr,
             "bench_step CONFIG_DIR [--decode ROWS:CONTEXT,...] [--prefill TOKENS[xPROMPTS],...] "
             "[--warm-up SECONDS] [--commit ID]\n");
  std::exit(2);
}

Arguments parse_arguments(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag.rfind("--", 0) != 0) {
      arguments.config = flag;
      continue;
    }
    if (i + 1 == argc) usage();
    const std::string value = argv[++i];
    if (flag == "--commit") {
      arguments.commit = value;
    } else if (flag == "--prefill") {
      arguments.prefill.clear();
      for (const std::string& item : split(value)) {
        const size_t times = item.find('x');
        arguments.prefill.emplace_back(
            std::stoi(item), times == std::string::npos ? 1 : std::stoi(item.substr(times + 1)));
      }
    } else if (flag == "--warm-up") {
      arguments.warm_up_s = std::stod(value);
    } else if (flag == "--decode") {
      arguments.decode.clear();
      for (const std::string& item : split(value)) {
        const size_t colon = item.find(':');
        if (colon == std::string::npos) usage();
        arguments.decode.emplace_back(std::stoi(item.substr(0, colon)),
                                      std::stoi(item.substr(colon + 1)));
      }
    } else {
      usage();
    }
  }
  if (arguments.config.empty()) usage();
  return arguments;
}

template <class T>
T take(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return std::move(*result);
}

// Bytes that every step reads of the weights: all but an embedding table that gives single rows.
double weight_bytes(const model::ModelConfig& config) {
  const auto layer =
      static_cast<double>(config.dim) *
      static_cast<double>(2 * config.q_dim() + 2 * config.kv_dim() + 3 * config.ffn_dim);
  return 2.0 * (layer * static_cast<double>(config.layers.size()) +
                static_cast<double>(config.vocab_size * config.dim));
}

class StepBench {
 public:
  StepBench(CudaBench& bench, const Arguments& arguments)
      : bench_(bench), arguments_(arguments), host_threads_(8) {
    bench_.exec().pool = &host_threads_;
    files_ = take(model::open_model(arguments.config));
    for (const auto& [rows, context] : arguments.decode) {
      max_rows_ = std::max(max_rows_, rows);
      max_context_ = std::max(max_context_, context + 1);
      num_blocks_ = std::max(num_blocks_, int64_t{rows} * blocks_of(context + 1));
    }
    for (const auto& [tokens, prompts] : arguments.prefill) {
      max_rows_ = std::max(max_rows_, tokens * prompts);
      max_context_ = std::max(max_context_, tokens);
      num_blocks_ = std::max(num_blocks_, prompts * blocks_of(tokens));
    }
    const TimePoint begin = Clock::now();
    model::LoadOptions options;
    options.load_format = model::LoadFormat::kDummy;
    weights_ = take(model::load_weights(bench_.exec(), bench_.ledger(), files_, options));
    decoder_ = std::make_unique<model::Decoder>(take(model::Decoder::create(
        bench_.exec(), bench_.ledger(), files_.config, weights_, max_rows_, max_context_)));
    kv_ = std::make_unique<kv::KvStore>(take(kv::KvStore::create(
        bench_.ledger(), model::Decoder::kv_layers(files_.config, bench_.exec().activation),
        num_blocks_)));
    fmt::print("{} of weights made in {:.2f} s\n", format_bytes(weights_.bytes),
               seconds_since(begin));
    const model::ModelConfig& config = files_.config;
    limits_ = {.max_rows = max_rows_,
               .max_sequences = max_rows_,
               .max_model_len = max_context_,
               .q_heads = config.q_heads,
               .kv_heads = config.kv_heads,
               .head_dim = config.head_dim,
               .num_sms = bench_.device().num_sms};
    workspace_ = take(Buffer::allocate(bench_.ledger(), MemoryUse::kWorkspace,
                                       ops::attention_workspace_bytes(limits_)));
  }

  void run() {
    for (const auto& [rows, context] : arguments_.decode) decode(rows, context);
    for (const auto& [tokens, prompts] : arguments_.prefill) prefill(tokens, prompts);
  }

 private:
  static int64_t blocks_of(int tokens) {
    return (tokens + kv::kBlockTokens - 1) / kv::kBlockTokens;
  }

  struct Step {
    model::ForwardBatch batch;
    int64_t sampled = 0;
  };

  // `sequences` sequences of `rows` rows each, the first of them at `position`.
  Step make_step(int sequences, int rows, int position, bool sample_all) {
    std::vector<int32_t> tokens, positions, slots, starts{0}, tables, samples;
    const int64_t blocks = blocks_of(position + rows);
    for (int s = 0; s < sequences; ++s) {
      for (int64_t b = 0; b < blocks; ++b)  // neighbours in a sequence are none in memory
        tables.push_back(static_cast<int32_t>((b * sequences + s) % num_blocks_));
      for (int r = 0; r < rows; ++r) {
        const int at = position + r;
        tokens.push_back((s * 7919 + at * 31 + 5) % static_cast<int32_t>(files_.config.vocab_size));
        positions.push_back(at);
        slots.push_back(tables[static_cast<size_t>(s * blocks + at / kv::kBlockTokens)] *
                            kv::kBlockTokens +
                        at % kv::kBlockTokens);
      }
      if (!sample_all) samples.push_back(static_cast<int32_t>(tokens.size()) - 1);
      starts.push_back(static_cast<int32_t>(tokens.size()));
    }
    if (sample_all) {
      samples.resize(tokens.size());
      std::iota(samples.begin(), samples.end(), 0);
    }
    const ops::AttentionItemCapacity capacity = ops::max_attention_items(limits_);
    std::vector<ops::AttentionItem> decode_items(static_cast<size_t>(capacity.decode)),
        prefill_items(static_cast<size_t>(capacity.prefill));
    const ops::AttentionItemCounts counts =
        ops::plan_attention(limits_, starts, positions, /*allow_prefill=*/rows > 1,
                            decode_items.data(), prefill_items.data());
    Step step;
    model::ForwardBatch& batch = step.batch;
    batch.tokens = bench_.upload(tokens);
    batch.positions = bench_.upload(positions);
    batch.slots = bench_.upload(slots);
    batch.query_start = bench_.upload(starts);
    batch.block_tables = bench_.upload(tables);
    batch.block_tables = TensorView(batch.block_tables.data, DType::kI32, {sequences, blocks});
    batch.sample_rows = bench_.upload(samples);
    batch.attention.decode_items =
        static_cast<const ops::AttentionItem*>(upload_items(decode_items, counts.decode));
    batch.attention.prefill_items =
        static_cast<const ops::AttentionItem*>(upload_items(prefill_items, counts.prefill));
    batch.attention.counts =
        bench_.upload(std::vector<int32_t>{counts.decode, counts.prefill}).as<int32_t>();
    batch.attention.has_decode_items = counts.decode > 0;
    batch.attention.num_prefill_items = counts.prefill;
    batch.attention.workspace = workspace_.data();
    batch.attention.limits = limits_;
    step.sampled = static_cast<int64_t>(samples.size());
    return step;
  }

  void* upload_items(const std::vector<ops::AttentionItem>& items, int count) {
    std::vector<int32_t> words(static_cast<size_t>(std::max(count, 1)) * 8, 0);
    std::memcpy(words.data(), items.data(), static_cast<size_t>(count) * sizeof(items[0]));
    return bench_.upload(words).data;
  }

  CudaBench::Time measure(const Step& step) {
    const model::ModelConfig& config = files_.config;
    Exec& ex = bench_.exec();
    const TensorView hidden = ops::activation_view(
        ex, bench_.zeros(ex.activation, {ops::num_k_tiles(config.dim), step.sampled, 64}).data,
        step.sampled, config.dim);
    const TensorView logits = bench_.zeros(DType::kF32, {step.sampled, config.vocab_size});
    return bench_.measure([&](int64_t) {
      decoder_->forward(ex, step.batch, *kv_);
      decoder_->final_norm(ex, step.batch, 0, step.sampled, hidden);
      decoder_->logits(ex, hidden, logits);
    });
  }

  void decode(int rows, int context) {
    const Step step = make_step(rows, /*rows=*/1, context, /*sample_all=*/true);
    const double kv_bytes = 4.0 * static_cast<double>(files_.config.kv_dim()) * (context + 1) *
                            rows * static_cast<double>(files_.config.layers.size());
    const CudaBench::Time time = measure(step);
    bench_.report(fmt::format("decode {} rows, context {}", rows, context), time,
                  weight_bytes(files_.config) + kv_bytes, 0,
                  fmt::format(",\"tok_per_s\":{:.1f}", rows / time.us * 1e6));
    bench_.free_tensors();
  }

  void prefill(int length, int prompts) {
    const int tokens = length * prompts;
    const Step step = make_step(prompts, length, /*position=*/0, /*sample_all=*/false);
    const model::ModelConfig& config = files_.config;
    const double head = static_cast<double>(config.vocab_size * config.dim);
    const double operations = 2.0 * tokens * (weight_bytes(config) / 2 - head) +
                              2.0 * head * prompts +
                              2.0 * tokens * length * static_cast<double>(config.q_dim()) *
                                  static_cast<double>(config.layers.size());
    const CudaBench::Time time = measure(step);
    bench_.report(fmt::format("prefill {} x {} tokens", prompts, length), time, 0, operations,
                  fmt::format(",\"tok_per_s\":{:.1f}", tokens / time.us * 1e6));
    bench_.free_tensors();
  }

  CudaBench& bench_;
  const Arguments& arguments_;
  ThreadPool host_threads_;
  model::ModelFiles files_;
  model::Weights weights_;
  std::unique_ptr<model::Decoder> decoder_;
  std::unique_ptr<kv::KvStore> kv_;
  int max_rows_ = 0;
  int max_context_ = 0;
  int64_t num_blocks_ = 0;
  ops::AttentionPlanLimits limits_;
  Buffer workspace_;
};

}  // namespace
}  // namespace donar::bench

int main(int argc, char** argv) {
  using namespace donar::bench;
  const Arguments arguments = parse_arguments(argc, argv);
  try {
    CudaBench::Options options;
    options.commit = arguments.commit;
    options.warm_up_s = arguments.warm_up_s;
    CudaBench bench(options);
    StepBench(bench, arguments).run();
    return bench.status();
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench_step: {}\n", error.what());
    return 1;
  }
}

// Rows for both samplers, the CPU's and the CUDA device's: the requests behind them as the engine
// would describe them to the device, and a comparison of everything that comes out.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "engine/sampler.h"
#include "engine/sampling_rules.h"
#include "ops/sample_tokens.h"
#include "tests/ops/cuda_device.h"

namespace donar::engine {

using ops::SampleBatch;
using ops::SampleKind;
using ops::SampleLogprobs;
using ops::SampleRow;

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();
inline constexpr int32_t kEos = 7;
inline constexpr int32_t kUntouched = -1;  // what poisoned memory holds

// A row to sample: what the engine knows of its sequence. The last output token counts as in
// flight: the host's part of the row is made without it.
struct Case {
  SamplingParams params;
  std::vector<int32_t> prompt{1, 2};
  std::vector<int32_t> output;
  int choice = 0;
  int prompt_token = -1;      // as in HeadRow
  std::vector<int32_t> mask;  // ids that a grammar allows; empty: no grammar
  bool padding = false;
};

struct Outcome {
  std::vector<int32_t> ids;
  std::vector<int32_t> last_tokens;
  std::vector<uint16_t> counts;  // [rows, vocab_size] if there were any
  std::vector<SampleLogprobs> logprobs;
};

struct Vocabulary {
  int64_t size;
  int64_t num_tokens;
};

class CudaSamplerTest : public CudaTest {
 protected:
  // Rows and their side arrays, on the device.
  struct Upload {
    SampleBatch batch;
    ops::SampleState state;
    bool has_counts = false;
  };

  TensorView upload_bytes(const void* data, size_t bytes) {
    std::vector<int32_t> words(bytes / 4);
    if (bytes > 0) std::memcpy(words.data(), data, words.size() * 4);
    return upload(words, {static_cast<int64_t>(words.size())});
  }

  Upload upload_rows(Vocabulary vocabulary, const std::vector<Case>& cases) {
    std::vector<SampleRow> rows;
    std::vector<ops::TokenBias> bias;
    std::vector<ops::TokenBan> bans;
    std::vector<int32_t> allowed, last_tokens;
    std::vector<uint32_t> masks;
    const auto mask_words = static_cast<size_t>(ops::sample_mask_words(vocabulary.size));
    Upload result;
    for (size_t i = 0; i < cases.size(); ++i) {
      const Case& one = cases[i];
      const SamplingParams& params = one.params;
      SampleRow row;
      last_tokens.push_back(one.output.empty() ? -1 : one.output.back());
      if (one.padding) {
        std::memset(static_cast<void*>(&row), 0, sizeof row);
        rows.push_back(row);
        continue;
      }
      row.slot = static_cast<int32_t>(i);
      row.logprobs_index = static_cast<int32_t>(i);
      if (one.prompt_token >= 0) {
        row.kind = SampleKind::kPromptLogprobs;
        row.target = one.prompt[static_cast<size_t>(one.prompt_token)];
        row.num_logprobs = params.num_prompt_logprobs;
        rows.push_back(row);
        continue;
      }
      row.kind = SampleKind::kDraw;
      row.seed = params.seed.value_or(5) + static_cast<uint64_t>(one.choice);
      row.position = one.prompt.size() + one.output.size();
      row.temperature = params.temperature;
      row.top_p = params.top_p;
      row.top_k = params.top_k;
      row.min_p_distance = ops::min_p_distance(params.min_p);
      row.num_logprobs = params.num_logprobs;
      if (has_penalties(params)) {
        result.has_counts = true;
        row.counts_slot = static_cast<int32_t>(i);
        row.repetition_penalty = params.repetition_penalty;
        row.presence_penalty = params.presence_penalty;
        row.frequency_penalty = params.frequency_penalty;
      }
      row.bias_begin = static_cast<int32_t>(bias.size());
      for (const LogitBias& entry : params.logit_bias) bias.push_back({entry.token, entry.bias});
      row.num_bias = static_cast<int32_t>(bias.size()) - row.bias_begin;
      row.bans_begin = static_cast<int32_t>(bans.size());
      if (static_cast<int>(one.output.size()) < params.min_tokens) {
        bans.push_back({kEos});
        for (int32_t token : params.stop_tokens) bans.push_back({token});
      }
      for (const std::vector<int32_t>& word : params.bad_words) {
        if (word.size() == 1) bans.push_back({word[0]});
        if (word.size() < 2 || one.output.size() + 1 < word.size()) continue;
        if (std::equal(word.begin(), word.end() - 2, one.output.end() - (std::ssize(word) - 1)))
          bans.push_back({word.back(), word[word.size() - 2]});
      }
      row.num_bans = static_cast<int32_t>(bans.size()) - row.bans_begin;
      row.allowed_begin = static_cast<int32_t>(allowed.size());
      allowed.insert(allowed.end(), params.allowed_tokens.begin(), params.allowed_tokens.end());
      row.num_allowed = static_cast<int32_t>(params.allowed_tokens.size());
      if (!one.mask.empty()) {
        row.mask_row = static_cast<int32_t>(masks.size() / mask_words);
        std::vector<uint32_t> words(mask_words);
        for (int32_t id : one.mask) words[static_cast<size_t>(id / 32)] |= 1u << (id % 32);
        masks.insert(masks.end(), words.begin(), words.end());
      }
      rows.push_back(row);
    }
    SampleBatch& batch = result.batch;
    batch.num_rows = static_cast<int64_t>(rows.size());
    batch.num_tokens = vocabulary.num_tokens;
    batch.needs = ops::sample_needs(rows);
    batch.rows = static_cast<const SampleRow*>(
        upload_bytes(rows.data(), rows.size() * sizeof(SampleRow)).data);
    batch.bias = static_cast<const ops::TokenBias*>(
        upload_bytes(bias.data(), bias.size() * sizeof(ops::TokenBias)).data);
    batch.bans = static_cast<const ops::TokenBan*>(
        upload_bytes(bans.data(), bans.size() * sizeof(ops::TokenBan)).data);
    batch.allowed = upload(allowed, {static_cast<int64_t>(allowed.size())}).as<int32_t>();
    batch.masks = static_cast<const uint32_t*>(upload_bytes(masks.data(), masks.size() * 4).data);
    batch.max_bias = static_cast<int64_t>(bias.size());

    const int64_t counts_slots = result.has_counts ? batch.num_rows : 0;
    const uint64_t bytes =
        ops::sample_state_bytes(vocabulary.size, batch.num_rows, counts_slots, batch.num_rows);
    const std::vector<int32_t> zeros(static_cast<size_t>(bytes / 4));
    result.state = ops::sample_state(upload(zeros, {static_cast<int64_t>(zeros.size())}).data,
                                     vocabulary.size, batch.num_rows, counts_slots, batch.num_rows);
    cuda_copy(result.state.last_tokens, last_tokens.data(), last_tokens.size() * sizeof(int32_t),
              ex.cuda->stream);
    wait();
    for (size_t i = 0; i < rows.size(); ++i) {
      if (rows[i].kind == SampleKind::kDraw && rows[i].counts_slot >= 0)
        rebuild_counts(result.state, rows[i].counts_slot, cases[i]);
    }
    return result;
  }

  // In pieces, as staging would bring them.
  void rebuild_counts(const ops::SampleState& state, int64_t slot, const Case& one) {
    ops::clear_token_counts(ex, state, slot);
    for (const bool is_output : {true, false}) {
      const std::vector<int32_t>& tokens = is_output ? one.output : one.prompt;
      const auto size = static_cast<int64_t>(tokens.size());
      const int32_t* data = upload(tokens, {size}).as<int32_t>();
      for (int64_t begin = 0; begin < size; begin += 3)
        ops::add_token_counts(ex, state, slot, data + begin, std::min<int64_t>(3, size - begin),
                              is_output);
    }
  }

  Outcome run_device(Vocabulary vocabulary, const std::vector<float>& logits,
                     const std::vector<Case>& cases, bool in_graph = false) {
    const Upload rows = upload_rows(vocabulary, cases);
    const int64_t num_rows = rows.batch.num_rows;
    const TensorView device_logits = upload(logits, {num_rows, vocabulary.size});
    const TensorView ids = poisoned(DType::kI32, {num_rows});
    const TensorView logprobs =
        poisoned(DType::kI32, {num_rows, static_cast<int64_t>(sizeof(SampleLogprobs) / 4)});
    const auto work = [&] {
      ops::sample_tokens(ex, device_logits.as<float>(), rows.batch, rows.state, ids.as<int32_t>(),
                         static_cast<SampleLogprobs*>(logprobs.data));
    };
    if (in_graph) {
      replay(work);
    } else {
      work();
    }
    Outcome outcome;
    outcome.ids = download_ids(ids.as<int32_t>(), num_rows);
    outcome.last_tokens = download_ids(rows.state.last_tokens, num_rows);
    outcome.logprobs.resize(static_cast<size_t>(num_rows));
    cuda_copy(outcome.logprobs.data(), logprobs.data,
              outcome.logprobs.size() * sizeof(SampleLogprobs), ex.cuda->stream);
    if (rows.has_counts) {
      outcome.counts.resize(static_cast<size_t>(num_rows * vocabulary.size));
      cuda_copy(outcome.counts.data(), rows.state.token_counts, outcome.counts.size() * 2,
                ex.cuda->stream);
    }
    for (int32_t arrivals : download_ids(reinterpret_cast<int32_t*>(rows.state.arrivals), num_rows))
      EXPECT_EQ(arrivals, 0);
    free_tensors();
    return outcome;
  }

  std::vector<int32_t> download_ids(const int32_t* data, int64_t count) {
    std::vector<int32_t> ids(static_cast<size_t>(count));
    cuda_copy(ids.data(), data, ids.size() * sizeof(int32_t), ex.cuda->stream);
    wait();
    return ids;
  }

  static std::vector<SampledToken> run_host(Vocabulary vocabulary, std::vector<float> logits,
                                            const std::vector<Case>& cases) {
    MemoryLedger host;
    ThreadPool pool(1);
    Result<Sampler> sampler =
        Sampler::create(host, vocabulary.size, vocabulary.num_tokens, {kEos}, 1);
    EXPECT_TRUE(sampler.has_value());
    std::vector<SampledToken> sampled;
    for (size_t i = 0; i < cases.size(); ++i) {
      const Case& one = cases[i];
      ActiveRequest active;
      active.request.prompt = one.prompt;
      active.request.sampling = one.params;
      if (!one.params.seed) active.request.sampling.seed = 5;
      Sequence sequence(active, one.choice);
      sequence.tokens.insert(sequence.tokens.end(), one.output.begin(), one.output.end());
      const auto row = std::span(logits).subspan(i * static_cast<size_t>(vocabulary.size),
                                                 static_cast<size_t>(vocabulary.size));
      if (!one.mask.empty()) {  // the CPU has no grammars: the same by hand
        std::vector<float> kept(row.size(), -kInfinity);
        for (int32_t id : one.mask) kept[static_cast<size_t>(id)] = row[static_cast<size_t>(id)];
        std::ranges::copy(kept, row.begin());
      }
      std::vector<SampledToken> out(1);
      if (!one.padding)
        sampler->run(pool, row, std::vector<HeadRow>{{&sequence, one.prompt_token}}, out);
      sampled.push_back(out[0]);
    }
    return sampled;
  }

  static void expect_logprobs(const SampleLogprobs& got, const PositionLogprobs& expected) {
    ASSERT_FALSE(expected.empty());
    const auto expect_near = [](float value, float wanted) {
      if (std::isnan(wanted)) {
        EXPECT_TRUE(std::isnan(value)) << value;
      } else if (std::isinf(wanted)) {
        EXPECT_EQ(value, wanted);
      } else {
        EXPECT_NEAR(value, wanted, 1e-6f * (1.0f + std::abs(wanted)));
      }
    };
    EXPECT_EQ(got.token, expected[0].token);
    EXPECT_EQ(got.rank, expected[0].rank);
    expect_near(got.logprob, expected[0].logprob);
    ASSERT_EQ(got.num_best, std::ssize(expected) - 1);
    for (size_t i = 1; i < expected.size(); ++i) {
      EXPECT_EQ(got.best_tokens[i - 1], expected[i].token) << "place " << i;
      expect_near(got.best_logprobs[i - 1], expected[i].logprob);
    }
  }

  // Runs both and compares everything.
  Outcome compare(Vocabulary vocabulary, const std::vector<float>& logits,
                  const std::vector<Case>& cases, bool in_graph = false) {
    const std::vector<SampledToken> expected = run_host(vocabulary, logits, cases);
    Outcome got = run_device(vocabulary, logits, cases, in_graph);
    for (size_t i = 0; i < cases.size(); ++i) {
      SCOPED_TRACE("row " + std::to_string(i) + ": " + describe(cases[i]));
      if (cases[i].padding) {
        EXPECT_EQ(got.ids[i], kUntouched);
        continue;
      }
      EXPECT_EQ(got.ids[i], expected[i].token);
      if (cases[i].prompt_token < 0) {
        EXPECT_EQ(got.last_tokens[i], expected[i].token);
      }
      if (!expected[i].logprobs.empty() && cases[i].mask.empty()) {
        expect_logprobs(got.logprobs[i], expected[i].logprobs);
      }
    }
    return got;
  }

  static std::string describe(const Case& one) {
    const SamplingParams& params = one.params;
    return "temperature " + std::to_string(params.temperature) + " top_p " +
           std::to_string(params.top_p) + " top_k " + std::to_string(params.top_k) + " min_p " +
           std::to_string(params.min_p) + " logprobs " + std::to_string(params.num_logprobs);
  }

  std::mt19937 random_{11};

  template <class T>
  T pick(std::initializer_list<T> values) {
    return values.begin()[random_() % values.size()];
  }
  int32_t random_id(Vocabulary vocabulary) {
    return static_cast<int32_t>(random_() % static_cast<uint32_t>(vocabulary.num_tokens));
  }

  std::vector<float> random_row(Vocabulary vocabulary) {
    std::normal_distribution<float> normal(0.0f, pick({0.5f, 2.0f, 4.0f}));
    const bool ties = random_() % 3 == 0, holes = random_() % 4 == 0;
    std::vector<float> row(static_cast<size_t>(vocabulary.size));
    for (float& logit : row) {
      logit = normal(random_);
      if (ties) logit = std::round(logit * 4.0f) / 4.0f;
      if (holes && random_() % 8 == 0) logit = pick({-kInfinity, std::nanf(""), -0.0f});
    }
    return row;
  }

  void choose_draw(SamplingParams& params) {
    params.seed = random_();
    params.temperature = pick({0.0f, 0.3f, 0.7f, 1.0f, 1.0f, 1.6f});
    if (random_() % 2) params.top_p = std::uniform_real_distribution(0.05f, 0.999f)(random_);
    if (random_() % 2) params.top_k = 1 + static_cast<int>(random_() % 60);
    if (random_() % 3 == 0) params.min_p = std::uniform_real_distribution(0.001f, 0.6f)(random_);
  }

  void choose_rules(Vocabulary vocabulary, Case& one) {
    SamplingParams& params = one.params;
    for (int i = static_cast<int>(random_() % 12); i > 0; --i)
      one.output.push_back(random_id(vocabulary) % 40);
    for (int i = static_cast<int>(random_() % 40); i > 0; --i)
      one.prompt.push_back(random_id(vocabulary));
    if (random_() % 2) {
      for (int32_t i = 0; i < 30; ++i)
        params.logit_bias.push_back({i * 2, pick({-100.0f, -1.5f, 0.25f, 4.0f})});
      params.logit_bias.push_back({static_cast<int32_t>(vocabulary.size) + 3, 100.0f});
    }
    if (random_() % 2) params.repetition_penalty = pick({0.8f, 1.3f});
    if (random_() % 2) params.presence_penalty = pick({-0.5f, 0.9f});
    if (random_() % 2) params.frequency_penalty = pick({-0.3f, 0.7f});
    if (random_() % 3 == 0) {
      for (int i = 0; i < 20; ++i) params.allowed_tokens.push_back(random_id(vocabulary));
    }
    if (random_() % 3 == 0) params.min_tokens = static_cast<int>(random_() % 14);
    params.stop_tokens = {3, 11};
    if (random_() % 2) {
      params.bad_words.push_back({random_id(vocabulary)});
      for (int32_t last = 0; last < 20; ++last) {
        params.bad_words.push_back({random_id(vocabulary) % 40, last});
        if (one.output.size() >= 2)  // with and without its beginning there
          params.bad_words.push_back(
              {one.output[one.output.size() - 2] + static_cast<int>(random_() % 2),
               one.output.back(), last + 20});
      }
    }
    if (random_() % 4 == 0) params.num_logprobs = static_cast<int>(random_() % 21);
  }
};

}  // namespace donar::engine

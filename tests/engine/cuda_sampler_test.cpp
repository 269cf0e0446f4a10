// The CUDA device's sampler against the CPU's: the same ids for the same logits, seeds and rules,
// at every size, alone and in a batch. Its sums are of integers, so that nothing is left to
// rounding.
#include "tests/engine/cuda_sampler_harness.h"

namespace donar::engine {
namespace {

constexpr Vocabulary kVocabularies[] = {{61, 61},         {61, 59},        {1000, 997},
                                        {5120, 5000},     {32003, 32001},  {128256, 128256},
                                        {151936, 151669}, {262208, 262144}};

TEST_F(CudaSamplerTest, greedy_rows_without_rules_take_the_lowest_of_the_best) {
  for (const Vocabulary vocabulary : kVocabularies) {
    SCOPED_TRACE(vocabulary.size);
    std::vector<Case> cases(7);
    for (Case& one : cases) one.params.temperature = 0.0f;
    cases[5].padding = true;
    cases[6].params.temperature = 1e-6f;
    std::vector<float> logits;
    for (size_t i = 0; i < cases.size(); ++i) {
      std::vector<float> row = random_row(vocabulary);
      for (int j = 0; j < 4; ++j)  // equal bests anywhere, and one that may not be taken
        row[random_() % static_cast<size_t>(vocabulary.num_tokens)] = 50.0f;
      if (vocabulary.num_tokens < vocabulary.size) row.back() = 99.0f;
      if (i == 1) std::ranges::fill(row, -kInfinity);
      if (i == 2) std::ranges::fill(row, std::nanf(""));
      if (i == 3) {
        std::ranges::fill(row, std::nanf(""));
        row[static_cast<size_t>(vocabulary.num_tokens) - 1] = -kInfinity;
      }
      if (i == 4) row[static_cast<size_t>(random_id(vocabulary))] = kInfinity;
      logits.insert(logits.end(), row.begin(), row.end());
    }
    compare(vocabulary, logits, cases);
    compare(vocabulary, logits, cases, /*in_graph=*/true);
  }
}

// Nothing but the slices of one row: every place of the best is found.
TEST_F(CudaSamplerTest, the_best_is_found_wherever_it_lies) {
  const Vocabulary vocabulary{16384, 16000};
  std::vector<Case> cases(1);
  cases[0].params.temperature = 0.0f;
  for (int32_t place : {0, 1, 31, 32, 1023, 1024, 1025, 4095, 8191, 8192, 15998, 15999}) {
    std::vector<float> logits(16384, 1.0f);
    logits[static_cast<size_t>(place)] = 2.0f;
    EXPECT_EQ(compare(vocabulary, logits, cases).ids[0], place);
  }
}

TEST_F(CudaSamplerTest, draws_are_those_of_the_cpu) {
  for (const Vocabulary vocabulary : kVocabularies) {
    SCOPED_TRACE(vocabulary.size);
    for (int round = 0; round < (vocabulary.size > 10000 ? 2 : 12); ++round) {
      std::vector<Case> cases(vocabulary.size > 10000 ? 12 : 50);
      std::vector<float> logits;
      for (Case& one : cases) {
        choose_draw(one.params);
        const std::vector<float> row = random_row(vocabulary);
        logits.insert(logits.end(), row.begin(), row.end());
      }
      compare(vocabulary, logits, cases, /*in_graph=*/round % 2 == 1);
    }
  }
}

TEST_F(CudaSamplerTest, rules_alone_and_together_are_those_of_the_cpu) {
  for (const Vocabulary vocabulary : {Vocabulary{61, 59}, Vocabulary{1000, 997},
                                      Vocabulary{5120, 5000}, Vocabulary{151936, 151669}}) {
    SCOPED_TRACE(vocabulary.size);
    for (int round = 0; round < (vocabulary.size > 10000 ? 2 : 12); ++round) {
      std::vector<Case> cases(vocabulary.size > 10000 ? 8 : 50);
      std::vector<float> logits;
      for (Case& one : cases) {
        choose_draw(one.params);
        choose_rules(vocabulary, one);
        one.padding = random_() % 9 == 0;
        const std::vector<float> row = random_row(vocabulary);
        logits.insert(logits.end(), row.begin(), row.end());
      }
      compare(vocabulary, logits, cases, /*in_graph=*/round % 2 == 1);
    }
  }
}

TEST_F(CudaSamplerTest, greedy_rows_follow_their_rules) {
  const Vocabulary vocabulary{1000, 997};
  std::vector<Case> cases(40);
  std::vector<float> logits;
  for (Case& one : cases) {
    choose_rules(vocabulary, one);
    one.params.temperature = 0.0f;
    const std::vector<float> row = random_row(vocabulary);
    logits.insert(logits.end(), row.begin(), row.end());
  }
  compare(vocabulary, logits, cases);
}

TEST_F(CudaSamplerTest, masks_keep_their_tokens_only) {
  for (const Vocabulary vocabulary : {Vocabulary{61, 59}, Vocabulary{5120, 5000}}) {
    std::vector<Case> cases(30);
    std::vector<float> logits;
    for (size_t i = 0; i < cases.size(); ++i) {
      Case& one = cases[i];
      choose_draw(one.params);
      if (i % 2) choose_rules(vocabulary, one);
      one.params.min_tokens = 0;  // bans and lists may leave nothing of a small mask
      one.params.allowed_tokens.clear();
      for (int32_t id = 0; id < vocabulary.num_tokens; ++id) {
        if (random_() % 3 == 0) one.mask.push_back(id);
      }
      if (i % 4 == 0) one.params.allowed_tokens = {one.mask[0], one.mask[1], one.mask[2], 5};
      if (i % 3 == 0) one.mask.resize(3);
      const std::vector<float> row = random_row(vocabulary);
      logits.insert(logits.end(), row.begin(), row.end());
    }
    const Outcome got = compare(vocabulary, logits, cases);
    for (size_t i = 0; i < cases.size(); ++i)
      EXPECT_TRUE(std::ranges::binary_search(cases[i].mask, got.ids[i])) << "row " << i;
  }
}

TEST_F(CudaSamplerTest, bans_are_stronger_than_bias_and_weaker_than_the_allowed_list) {
  const Vocabulary vocabulary{300, 290};
  std::vector<Case> cases(3);
  cases[0].params.temperature = 0.0f;
  cases[0].params.allowed_tokens = {11, kEos};
  cases[0].params.stop_tokens = {11};
  cases[0].params.min_tokens = 4;
  cases[1].params = cases[0].params;
  cases[1].params.temperature = 1.0f;
  // A ban is stronger than an infinite bias, and stays one that came with the logits.
  cases[2].params.temperature = 0.0f;
  cases[2].params.logit_bias = {{3, kInfinity}, {4, 1.0f}};
  std::vector<float> logits(3 * 300, 0.5f);
  logits[2 * 300 + 3] = -kInfinity;
  const Outcome got = compare(vocabulary, logits, cases);
  EXPECT_EQ(got.ids, (std::vector<int32_t>{kEos, kEos, 4}));
}

// More tokens in the buckets that decide than are listed: the row itself is searched.
TEST_F(CudaSamplerTest, flat_rows_are_drawn_exactly_too) {
  for (const Vocabulary vocabulary : {Vocabulary{9001, 8999}, Vocabulary{128256, 128000}}) {
    std::vector<Case> cases;
    std::vector<float> logits;
    for (int i = 0; i < 24; ++i) {
      Case one;
      choose_draw(one.params);
      if (i % 6 == 0) one.params.top_k = pick({4097, 5000, 8000});
      one.params.temperature = pick({0.5f, 1.0f, 3.0f});
      const float spread = pick({0.0f, 1e-6f, 0.01f, 1.0f});
      if (i % 5 == 0) choose_rules(vocabulary, one);
      for (int64_t id = 0; id < vocabulary.size; ++id) {
        const float part = static_cast<float>(random_() % 1000) * 0.001f;
        logits.push_back(3.0f + spread * part);
      }
      cases.push_back(one);
    }
    compare(vocabulary, logits, cases);
  }
}

TEST_F(CudaSamplerTest, the_ends_of_a_flat_row_and_extreme_settings) {
  const Vocabulary vocabulary{5000, 5000};
  std::vector<Case> cases;
  std::vector<float> logits;
  for (const float temperature : {1e-5f, 1e-3f, 1.0f, 100.0f}) {
    for (const float top_p : {1e-6f, 0.5f, 0.9999999f, 1.0f}) {
      for (const float min_p : {0.0f, 1e-30f, 1.0f}) {
        for (const int top_k : {0, 1, 4999, 5000}) {
          Case one;
          one.params.temperature = temperature;
          one.params.top_p = top_p;
          one.params.min_p = min_p;
          one.params.top_k = top_k;
          one.params.seed = random_();
          cases.push_back(one);
          const float scale = pick({1e-4f, 1.0f, 1e4f, 1e30f});
          for (int i = 0; i < 5000; ++i)
            logits.push_back(scale * static_cast<float>(static_cast<int>(random_() % 200) - 100));
        }
      }
    }
  }
  compare(vocabulary, logits, cases);
}

TEST_F(CudaSamplerTest, logprobs_are_those_of_the_raw_logits) {
  for (const Vocabulary vocabulary : kVocabularies) {
    SCOPED_TRACE(vocabulary.size);
    std::vector<Case> cases(9);
    std::vector<float> logits;
    for (size_t i = 0; i < cases.size(); ++i) {
      SamplingParams& params = cases[i].params;
      if (i % 3 == 1) choose_rules(vocabulary, cases[i]);
      params.num_logprobs = i == 0 ? 0 : i == 1 ? 20 : static_cast<int>(random_() % 21);
      if (i % 3 == 0) params.temperature = 0.0f;
      if (i % 4 == 2) {
        cases[i].prompt = {1, random_id(vocabulary)};
        cases[i].prompt_token = 1;
        params.num_prompt_logprobs = 7;
      }
      std::vector<float> row = random_row(vocabulary);
      if (i == 3) std::ranges::fill(row, 0.25f);
      if (i == 4) {  // the best all belong to a few threads
        for (size_t id = 0; id < row.size(); ++id)
          row[id] = (id / 4 % 512 < 8 ? 10.0f : 0.0f) + 1e-4f * static_cast<float>(random_() % 999);
      }
      if (i == 5) row[static_cast<size_t>(random_id(vocabulary))] = kInfinity;
      if (i == 7) std::ranges::fill(row, -kInfinity);
      logits.insert(logits.end(), row.begin(), row.end());
    }
    compare(vocabulary, logits, cases);
  }
}

TEST_F(CudaSamplerTest, a_row_alone_is_the_row_in_a_batch) {
  const Vocabulary vocabulary{32003, 32001};
  std::vector<Case> cases(16);
  std::vector<std::vector<float>> rows;
  std::vector<float> logits;
  for (Case& one : cases) {
    choose_draw(one.params);
    choose_rules(vocabulary, one);
    one.params.num_logprobs = 5;
    rows.push_back(random_row(vocabulary));
    logits.insert(logits.end(), rows.back().begin(), rows.back().end());
  }
  const Outcome together = run_device(vocabulary, logits, cases);
  for (size_t i = 0; i < cases.size(); ++i) {
    const Outcome alone = run_device(vocabulary, rows[i], {cases[i]});
    EXPECT_EQ(alone.ids[0], together.ids[i]) << "row " << i;
    EXPECT_EQ(std::memcmp(&alone.logprobs[0].logprob, &together.logprobs[i].logprob, sizeof(float)),
              0);
    EXPECT_EQ(std::memcmp(alone.logprobs[0].best_logprobs, together.logprobs[i].best_logprobs,
                          5 * sizeof(float)),
              0);
  }
}

// The device counts what it drew: no list is uploaded between the steps.
TEST_F(CudaSamplerTest, penalties_keep_up_over_steps_of_a_graph) {
  const Vocabulary vocabulary{1000, 997};
  constexpr int kSteps = 25;
  std::vector<Case> cases(6);
  for (size_t i = 0; i < cases.size(); ++i) {
    SamplingParams& params = cases[i].params;
    params.temperature = i % 2 ? 0.8f : 0.0f;
    params.repetition_penalty = i % 3 == 0 ? 1.0f : 1.2f;
    params.presence_penalty = 0.4f;
    params.frequency_penalty = 0.3f;
    params.num_logprobs = i % 3 == 2 ? 3 : -1;  // penalties are written back, or not
    cases[i].prompt = {1, 2, 3, 5, 5};
    cases[i].output = {5, 6};
  }
  std::vector<float> logits;
  for (size_t i = 0; i < cases.size(); ++i) {
    std::vector<float> row(static_cast<size_t>(vocabulary.size));
    for (size_t id = 0; id < row.size(); ++id) row[id] = id < 12 ? 3.0f : 0.0f;
    logits.insert(logits.end(), row.begin(), row.end());
  }
  // Seeds change with the position, which the graph's rows do not: rows are uploaded anew, counts
  // are kept.
  Upload first = upload_rows(vocabulary, cases);
  const TensorView ids = poisoned(DType::kI32, {6});
  const TensorView logprobs = poisoned(DType::kI32, {6, sizeof(SampleLogprobs) / 4});
  for (int step = 0; step < kSteps; ++step) {
    const std::vector<SampledToken> expected = run_host(vocabulary, logits, cases);
    Upload now = upload_rows(vocabulary, cases);
    now.state = first.state;
    const TensorView device_logits = upload(logits, {6, vocabulary.size});
    replay([&] {
      ops::sample_tokens(ex, device_logits.as<float>(), now.batch, now.state, ids.as<int32_t>(),
                         static_cast<SampleLogprobs*>(logprobs.data));
    });
    const std::vector<int32_t> got = download_ints(ids);
    for (size_t i = 0; i < cases.size(); ++i) {
      ASSERT_EQ(got[i], expected[i].token) << "step " << step << " row " << i;
      cases[i].output.push_back(got[i]);
    }
  }
  std::vector<uint16_t> counts(6 * 1000);
  cuda_copy(counts.data(), first.state.token_counts, counts.size() * 2, ex.cuda->stream);
  wait();
  for (size_t i = 0; i < cases.size(); ++i) {
    for (int32_t id = 0; id < 1000; ++id) {
      const bool in_prompt = std::ranges::count(cases[i].prompt, id) > 0;
      const auto num_output = std::ranges::count(cases[i].output, id);
      ASSERT_EQ(counts[i * 1000 + static_cast<size_t>(id)], (in_prompt ? 0x8000 : 0) + num_output)
          << "row " << i << " token " << id;
    }
  }
}

TEST_F(CudaSamplerTest, counts_stop_at_their_largest_value) {
  const Vocabulary vocabulary{61, 61};
  std::vector<Case> cases(1);
  cases[0].params.presence_penalty = 0.5f;
  const Upload rows = upload_rows(vocabulary, cases);
  const std::vector<int32_t> many(40000, 9);
  const int32_t* tokens = upload(many, {40000}).as<int32_t>();
  ops::add_token_counts(ex, rows.state, 0, tokens, 40000, /*is_output=*/true);
  const std::vector<int32_t> outside{-1, 61, 1000000};
  ops::add_token_counts(ex, rows.state, 0, upload(outside, {3}).as<int32_t>(), 3, true);
  std::vector<uint16_t> counts(61);
  cuda_copy(counts.data(), rows.state.token_counts, 122, ex.cuda->stream);
  wait();
  for (size_t id = 0; id < counts.size(); ++id)
    EXPECT_EQ(counts[id], id == 9 ? 0x7fff : id == 1 || id == 2 ? 0x8000 : 0) << id;
}

TEST_F(CudaSamplerTest, the_workspace_is_what_it_says) {
  MemoryLedger device(0, MemorySpace::kCuda);
  const Vocabulary vocabulary{1000, 997};
  std::vector<Case> cases(20);
  for (Case& one : cases) {
    choose_rules(vocabulary, one);
    one.params.logit_bias = {{1, 1.0f}, {2, 2.0f}};
  }
  {
    Result<Buffer> buffer = Buffer::allocate(device, MemoryUse::kWorkspace,
                                             ops::sample_workspace_bytes(20, vocabulary.size, 40));
    ASSERT_TRUE(buffer.has_value());
    Arena arena(std::move(*buffer));
    Arena* const before = ex.arena;
    ex.arena = &arena;
    const std::vector<float> logits(20 * 1000, 0.0f);
    compare(vocabulary, logits, cases);
    ex.arena = before;
  }
  EXPECT_EQ(device.total(), 0u);
}

}  // namespace
}  // namespace donar::engine

// The numbers of bench_serve, and how events are cut out of a stream.
#include "serve/records.h"

#include <gmock/gmock.h>

#include "serve/event_parser.h"

namespace donar::bench::serve {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TimePoint at(double seconds) {
  return TimePoint() +
         std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

Record record(double start, std::vector<double> tokens, int64_t count = 0) {
  Record out;
  out.start = at(start);
  for (const double token : tokens) out.tokens.push_back(at(token));
  out.end = out.tokens.back();
  out.input_tokens = 10;
  out.output_tokens = count > 0 ? count : static_cast<int64_t>(tokens.size());
  return out;
}

TEST(Records, percentiles_are_those_of_the_nearest_rank) {
  std::vector<double> values;
  for (int i = 100; i >= 1; --i) values.push_back(i);
  const Spread s = *spread(values);
  EXPECT_EQ(s.mean, 50.5);
  EXPECT_EQ(s.p50, 50);
  EXPECT_EQ(s.p90, 90);
  EXPECT_EQ(s.p99, 99);
  EXPECT_EQ(s.max, 100);
  EXPECT_EQ(spread({3.0})->p50, 3.0);
  EXPECT_FALSE(spread({}));
}

TEST(Records, one_request_gives_its_rates) {
  const Summary s = summarize({record(1, {2, 3, 4, 5})}, 1);
  EXPECT_EQ(s.errors, 0);
  EXPECT_DOUBLE_EQ(s.wall_s, 4);
  EXPECT_DOUBLE_EQ(s.output_tok_s, 1);
  EXPECT_DOUBLE_EQ(s.prompt_tok_s, 2.5);
  EXPECT_DOUBLE_EQ(s.decode_tok_s, 1);
  EXPECT_DOUBLE_EQ(s.prefill_tok_s, 10);
  EXPECT_DOUBLE_EQ(s.ttft_s->p50, 1);
  EXPECT_DOUBLE_EQ(s.itl_s->mean, 1);
  EXPECT_DOUBLE_EQ(*s.steady_tok_s, 1);
}

TEST(Records, steady_is_while_the_whole_first_wave_decodes) {
  // Both decode from 3 to 5; then 3 and 2 events of one token each came.
  const std::vector<Record> records = {record(0, {1, 2, 3.5, 4, 5}), record(0.1, {3, 4.5, 5, 6}),
                                       record(5, {6, 7})};
  EXPECT_DOUBLE_EQ(*summarize(records, 2).steady_tok_s, 5 / 2.0);
  // Never all together.
  EXPECT_FALSE(summarize({record(0, {1, 2}), record(0.1, {3, 4})}, 2).steady_tok_s);
  // Arrivals of their own rate have no wave.
  EXPECT_FALSE(summarize(records, 0).steady_tok_s);
}

TEST(Records, events_of_several_tokens_count_with_their_tokens) {
  const Summary s = summarize({record(0, {1, 2, 3}, /*count=*/6)}, 1);
  EXPECT_EQ(s.output_tokens, 6);
  EXPECT_EQ(s.events, 3);
  EXPECT_DOUBLE_EQ(*s.steady_tok_s, 2);
}

TEST(Records, failures_are_counted_and_left_out) {
  Record bad = record(0, {100});
  bad.error = "first";
  Record worse = bad;
  worse.error = "second";
  const Summary s = summarize({bad, record(0, {1, 2}), worse}, 3);
  EXPECT_EQ(s.requests, 3);
  EXPECT_EQ(s.errors, 2);
  EXPECT_EQ(s.first_error, "first");
  EXPECT_DOUBLE_EQ(s.wall_s, 2);
  const Summary none = summarize({bad}, 1);
  EXPECT_EQ(none.errors, 1);
  EXPECT_FALSE(none.ttft_s);
}

constexpr std::string_view kStream =
    ": a comment\n\n"
    "data: {\"choices\":[{\"text\":\"a\\n\\nb\"}],\"usage\":null}\n\n"
    "data:{\"choices\":[{\"text\":\"c\"}]}\r\n\r\n"
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\n"
    "data: [DONE]\n\n";

TEST(EventParser, every_cut_of_a_stream_gives_the_same_events) {
  for (size_t cut = 0; cut <= kStream.size(); ++cut) {
    EventParser parser;
    Record record;
    parser.take(kStream.substr(0, cut), at(1), record);
    parser.take(kStream.substr(cut), at(2), record);
    EXPECT_EQ(record.tokens.size(), 2u) << cut;
    EXPECT_EQ(record.input_tokens, 7) << cut;
    EXPECT_EQ(record.output_tokens, 2) << cut;
    EXPECT_EQ(record.error, "") << cut;
  }
  EventParser parser;
  Record record;
  for (size_t i = 0; i < kStream.size(); ++i)
    parser.take(kStream.substr(i, 1), at(static_cast<double>(i)), record);
  EXPECT_EQ(record.tokens.size(), 2u);
  EXPECT_LT(record.tokens[0], record.tokens[1]);
}

TEST(EventParser, errors_in_a_stream_are_kept) {
  EventParser parser;
  Record record;
  parser.take("data: {\"error\":{\"message\":\"lost\"}}\n\n", at(1), record);
  EXPECT_THAT(record.error, HasSubstr("lost"));
  record = {};
  parser.take("data: not json\n\n", at(1), record);
  EXPECT_THAT(record.error, HasSubstr("not json"));
}

}  // namespace
}  // namespace donar::bench::serve

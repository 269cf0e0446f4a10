// The queue between the engine thread and one reader.
#include "engine/stream.h"

#include <gtest/gtest.h>

#include <thread>

namespace donar::engine {
namespace {

TokenEvent event_of(int32_t token) {
  TokenEvent event;
  event.tokens = {token};
  return event;
}

TEST(Stream, events_come_in_order_and_then_the_end) {
  auto state = std::make_shared<StreamState>();
  Stream stream(state);
  EXPECT_FALSE(stream.try_pop());
  state->push(event_of(1));
  state->push(event_of(2));
  RequestTiming timing;
  timing.prompt_tokens = 7;
  state->close(timing);
  EXPECT_FALSE(stream.finished());
  EXPECT_EQ(stream.pop()->tokens[0], 1);
  EXPECT_EQ(stream.try_pop()->tokens[0], 2);
  EXPECT_FALSE(stream.pop());
  EXPECT_TRUE(stream.finished());
  EXPECT_EQ(stream.timing().prompt_tokens, 7);
}

TEST(Stream, pop_waits_for_another_threads_push) {
  auto state = std::make_shared<StreamState>();
  Stream stream(state);
  std::thread writer([&] {
    for (int i = 0; i < 100; ++i) state->push(event_of(i));
    state->close({});
  });
  for (int i = 0; i < 100; ++i) EXPECT_EQ(stream.pop()->tokens[0], i);
  EXPECT_FALSE(stream.pop());
  writer.join();
}

TEST(Stream, on_ready_is_called_for_what_is_there_what_comes_and_the_end) {
  auto state = std::make_shared<StreamState>();
  Stream stream(state);
  state->push(event_of(1));
  int calls = 0;
  stream.set_on_ready([&] { ++calls; });
  EXPECT_EQ(calls, 1);
  state->push(event_of(2));
  EXPECT_EQ(calls, 2);
  stream.set_on_ready({});
  state->push(event_of(3));
  EXPECT_EQ(calls, 2);
  stream.set_on_ready([&] { ++calls; });
  state->close({});
  EXPECT_EQ(calls, 4);
}

TEST(Stream, destroying_or_replacing_a_stream_aborts_its_request) {
  auto first = std::make_shared<StreamState>(), second = std::make_shared<StreamState>();
  {
    Stream stream(first);
    Stream moved(std::move(stream));
    EXPECT_EQ(first->cancelled(), FinishReason::kNone);
    moved = Stream(second);
    EXPECT_EQ(first->cancelled(), FinishReason::kAbort);
    EXPECT_EQ(second->cancelled(), FinishReason::kNone);
  }
  EXPECT_EQ(second->cancelled(), FinishReason::kAbort);
}

TEST(Stream, the_first_cancel_keeps_its_reason_and_cancelled_choices_are_taken_once) {
  auto state = std::make_shared<StreamState>();
  {
    Stream stream(state);
    stream.cancel_choice(2);
    stream.cancel_choice(0);
    stream.cancel(FinishReason::kStop);
  }
  EXPECT_EQ(state->cancelled(), FinishReason::kStop);
  EXPECT_EQ(state->take_cancelled_choices(), (std::vector<int>{2, 0}));
  EXPECT_TRUE(state->take_cancelled_choices().empty());
}

}  // namespace
}  // namespace donar::engine

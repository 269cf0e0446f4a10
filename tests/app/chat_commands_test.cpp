#include "app/chat_commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace donar::app {
namespace {

using testing::HasSubstr;

TEST(ChatCommands, set_changes_one_setting_within_its_range) {
  Conversation c;
  EXPECT_THAT(run_chat_command("/set temperature 0.25", c).text, HasSubstr("temperature = 0.25"));
  EXPECT_FLOAT_EQ(c.sampling.temperature, 0.25f);
  run_chat_command("/set  top_k   40 ", c);
  EXPECT_EQ(c.sampling.top_k, 40);
  run_chat_command("/set seed 7", c);
  EXPECT_EQ(c.sampling.seed, 7u);
  run_chat_command("/set seed random", c);
  EXPECT_FALSE(c.sampling.seed.has_value());
  run_chat_command("/set max_tokens 12", c);
  EXPECT_EQ(c.max_tokens, 12);
  EXPECT_THAT(run_chat_command("/set top_p 2", c).text, HasSubstr("not a number from"));
  EXPECT_FLOAT_EQ(c.sampling.top_p, 1.0f);
  EXPECT_THAT(run_chat_command("/set warmth 2", c).text, HasSubstr("no setting \"warmth\""));
  EXPECT_THAT(run_chat_command("/set", c).text, HasSubstr("top_k 40"));
}

TEST(ChatCommands, system_prompt_starts_the_conversation_anew) {
  Conversation c;
  c.messages.push_back(json::object{{"role", "user"}, {"content", "hi"}});
  run_chat_command("/system You are brief.", c);
  EXPECT_TRUE(c.messages.empty());
  ASSERT_EQ(c.with_system().size(), 1u);
  EXPECT_EQ(c.with_system()[0].at("content").as_string(), "You are brief.");
  EXPECT_THAT(run_chat_command("/system", c).text, HasSubstr("You are brief."));
}

TEST(ChatCommands, clear_keeps_the_system_prompt) {
  Conversation c;
  c.system = "s";
  c.messages.push_back(json::object{{"role", "user"}, {"content", "hi"}});
  run_chat_command("/clear", c);
  EXPECT_EQ(c.with_system().size(), 1u);
}

TEST(ChatCommands, exit_leaves_and_unknown_commands_do_not) {
  Conversation c;
  EXPECT_TRUE(run_chat_command("/exit", c).leave);
  EXPECT_TRUE(run_chat_command("/bye", c).leave);
  const CommandReply reply = run_chat_command("/exot", c);
  EXPECT_FALSE(reply.leave);
  EXPECT_THAT(reply.text, HasSubstr("/help"));
}

TEST(ChatCommands, generation_config_sets_what_it_names_and_nothing_invalid) {
  engine::SamplingParams sampling;
  apply_generation_config(
      {{"temperature", 0.6}, {"top_p", 0.9}, {"top_k", 20}, {"min_p", 7}, {"eos_token_id", 2}},
      sampling);
  EXPECT_FLOAT_EQ(sampling.temperature, 0.6f);
  EXPECT_FLOAT_EQ(sampling.top_p, 0.9f);
  EXPECT_EQ(sampling.top_k, 20);
  EXPECT_FLOAT_EQ(sampling.min_p, 0.0f);
}

}  // namespace
}  // namespace donar::app

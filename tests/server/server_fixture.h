// A server on a free port with a fake engine, a byte-level tokenizer of 256 bytes and three special
// tokens, and ChatML.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "server/json_text.h"
#include "server/server.h"
#include "tests/server/fake_engine.h"
#include "tests/server/http_client.h"

namespace donar::server::testing {

inline constexpr int32_t kImStart = 256;
inline constexpr int32_t kImEnd = 257;
inline constexpr int32_t kNaive = 258;  // not special: "na\xC3", which ends inside a character

inline const char* kChatMl =
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

// Token id = byte value.
inline text::Tokenizer byte_tokenizer() {
  json::object vocab;
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const int code = printable ? byte : next++;
    std::string text;  // GPT-2 spells bytes as characters
    if (code < 0x80) {
      text += static_cast<char>(code);
    } else {
      text += static_cast<char>(0xC0 | (code >> 6));
      text += static_cast<char>(0x80 | (code & 0x3F));
    }
    vocab[text] = byte;
  }
  json::array added;
  int32_t id = kImStart;
  for (const char* special : {"<|im_start|>", "<|im_end|>"})
    added.push_back(json::object{{"id", id++},
                                 {"content", special},
                                 {"special", true},
                                 {"single_word", false},
                                 {"lstrip", false},
                                 {"rstrip", false},
                                 {"normalized", false}});
  vocab["na\xC3\x83"] = kNaive;  // the spelling of bytes 6E 61 C3
  json::object model{{"type", "BPE"}, {"vocab", vocab}, {"merges", json::array{}}};
  json::object root{{"version", "1.0"}, {"added_tokens", added}, {"normalizer", nullptr}};
  root["pre_tokenizer"] =
      json::object{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  root["post_processor"] = nullptr;
  root["decoder"] = json::object{{"type", "ByteLevel"}};
  root["model"] = model;
  auto made = text::Tokenizer::from_json(to_json_text(root));
  EXPECT_TRUE(made.has_value()) << (made ? "" : made.error().message);
  return std::move(*made);
}

inline std::vector<int32_t> bytes_of(std::string_view text) {
  std::vector<int32_t> tokens;
  for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  return tokens;
}

class ServerTest : public ::testing::Test {
 protected:
  // Answers every request with these bytes as tokens, then the end token.
  void answer_with(const std::string& text) {
    engine_.script = [text](const engine::Request&) {
      Script script;
      script.tokens = bytes_of(text);
      script.end_token = kImEnd;
      return script;
    };
  }

  ServerConfig default_config() const {
    ServerConfig config;
    config.port = 0;
    config.model_names = {"tiny", "org/tiny-alias"};
    return config;
  }

  ServedModel served_model(const char* chat_template = kChatMl) {
    ServedModel model;
    model.tokenizer = std::make_shared<text::Tokenizer>(byte_tokenizer());
    if (chat_template != nullptr) {
      auto parsed = text::ChatTemplate::parse(chat_template, {});
      EXPECT_TRUE(parsed.has_value());
      model.chat_template = std::make_shared<text::ChatTemplate>(std::move(*parsed));
    }
    model.engine = &engine_;
    model.root = "/models/tiny";
    model.precision = "Q4_1";
    model.num_blocks = 64;
    model.kv_dtype = "bfloat16";
    return model;
  }

  void start(ServerConfig config) {
    server_ = std::make_unique<Server>(std::move(config));
    const auto started = server_->start();
    ASSERT_TRUE(started.has_value()) << started.error().message;
  }
  void start_ready() { start_ready(default_config()); }
  void start_ready(ServerConfig config) {
    start(std::move(config));
    if (!engine_.script) answer_with("Hello");
    server_->set_model(served_model());
  }

  int port() const { return server_->port(); }
  Reply request(const std::string& method, const std::string& target, const std::string& body = {},
                const HttpClient::Headers& headers = {}) {
    HttpClient client(port());
    client.send_request(method, target, body, headers);
    return client.receive(method == "HEAD");
  }
  Reply get(const std::string& target) { return request("GET", target); }
  Reply post(const std::string& target, const std::string& body) {
    return request("POST", target, body);
  }
  static json::value parse(const std::string& text) {
    auto value = parse_json(text);
    EXPECT_TRUE(value.has_value()) << text;
    return value ? *value : json::value();
  }
  // POST, expects 200, the body as JSON.
  json::value post_ok(const std::string& target, const std::string& body) {
    const Reply reply = post(target, body);
    EXPECT_EQ(reply.status, 200) << reply.body;
    return parse(reply.body);
  }
  // POST, expects that status and vLLM's error object; the message.
  std::string post_error(const std::string& target, const std::string& body, int status) {
    const Reply reply = post(target, body);
    EXPECT_EQ(reply.status, status) << body << " -> " << reply.body;
    return error_message(reply);
  }
  static std::string error_message(const Reply& reply) {
    const json::value value = parse(reply.body);
    const json::value* error =
        value.is_object() ? value.get_object().if_contains("error") : nullptr;
    if (error == nullptr || !error->is_object()) return "no error object: " + reply.body;
    EXPECT_EQ(error->at("code").to_number<int>(), reply.status);
    EXPECT_TRUE(error->at("type").is_string());
    EXPECT_TRUE(error->get_object().contains("param"));
    return std::string(error->at("message").as_string());
  }
  // The JSON of every data line but [DONE], which must be the last one.
  static std::vector<json::value> events_of(const std::string& stream) {
    std::vector<json::value> events;
    bool done = false;
    size_t at = 0;
    while (at < stream.size()) {
      const size_t end = stream.find("\n\n", at);
      EXPECT_NE(end, std::string::npos) << "an event without its end: " << stream.substr(at);
      if (end == std::string::npos) break;
      const std::string event = stream.substr(at, end - at);
      at = end + 2;
      if (event.rfind(": ", 0) == 0) continue;
      EXPECT_EQ(event.rfind("data: ", 0), 0u) << event;
      EXPECT_FALSE(done) << "after [DONE]: " << event;
      if (event == "data: [DONE]") {
        done = true;
      } else {
        events.push_back(parse(event.substr(6)));
      }
    }
    EXPECT_TRUE(done) << stream;
    return events;
  }
  // All text of one choice of a streamed chat.
  static std::string streamed_text(const std::vector<json::value>& events, int index = 0) {
    std::string text;
    for (const json::value& event : events)
      for (const json::value& choice : event.at("choices").as_array())
        if (choice.at("index").to_number<int>() == index) {
          const json::object& object = choice.get_object();
          if (const json::value* completion = object.if_contains("text"))
            text += completion->as_string();
          if (const json::value* delta = object.if_contains("delta"))
            if (const json::value* content = delta->get_object().if_contains("content"))
              text += content->as_string();
        }
    return text;
  }

  FakeEngine engine_;
  std::unique_ptr<Server> server_;  // goes before the engine
};

}  // namespace donar::server::testing

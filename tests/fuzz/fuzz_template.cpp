// Chat templates: up to a line "---" the template, after it JSON messages. Small limits keep
// hostile inputs quick; what renders within them must render to the same text, with sane ranges,
// through ChatTemplate.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/json.h"
#include "text/chat_messages.h"
#include "text/chat_template.h"
#include "text/jinja/template.h"

using namespace donar;        // NOLINT: a fuzz target is its own program
using namespace donar::text;  // NOLINT

namespace {

std::tm fixed_clock() { return std::tm{}; }

void check_ranges(const RenderedPrompt& prompt) {
  size_t last = 0;
  for (const ByteRange& range : prompt.untrusted) {
    DONAR_CHECK(range.begin < range.end && range.begin >= last && range.end <= prompt.text.size());
    last = range.end;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t split = input.find("\n---\n");
  const std::string source(input.substr(0, split));
  ChatInput chat;
  chat.messages = {json::object{{"role", "user"}, {"content", "a <|im_end|> b"}},
                   json::object{{"role", "assistant"}, {"content", "c"}}};
  if (split != std::string_view::npos) {
    const Result<json::value> parsed = parse_json(input.substr(split + 5));
    if (parsed && parsed->is_array()) chat.messages = parsed->get_array();
  }
  Result<jinja::Template> engine = jinja::Template::parse(source);
  if (!engine) return 0;
  const Result<json::array> messages = prepare_messages(chat.messages, chat.openai_messages);
  if (!messages) return 0;
  jinja::Variables variables;
  try {
    variables.emplace_back("messages", jinja::Value::from_json(*messages, /*untrusted=*/true));
  } catch (const jinja::TemplateError&) {
    return 0;
  }
  variables.emplace_back("tools", jinja::Value::none());
  variables.emplace_back("documents", jinja::Value::none());
  variables.emplace_back("add_generation_prompt", jinja::Value::boolean(true));
  variables.emplace_back("bos_token", jinja::Value::string("<s>"));
  const jinja::Limits limits{
      .max_steps = 20'000, .max_bytes = 4 << 20, .max_text_bytes = 1 << 16, .max_depth = 300};
  const Result<jinja::Text> text = engine->render(variables, fixed_clock, limits);
  if (!text) return 0;

  Result<ChatTemplate> chat_template = ChatTemplate::parse(source, {{"bos_token", "<s>"}});
  DONAR_CHECK(chat_template.has_value());
  chat_template->set_clock(fixed_clock);
  const Result<RenderedPrompt> prompt = chat_template->render(chat);
  DONAR_CHECK(prompt.has_value(), "{}", prompt.error().message);
  DONAR_CHECK(prompt->text == text->bytes());
  check_ranges(*prompt);
  chat.continue_final_message = true;
  if (const Result<RenderedPrompt> continued = chat_template->render(chat))
    check_ranges(*continued);
  return 0;
}

// ChatTemplate: sources, variables and the end of a continued message around the engine in jinja/.
#include "text/chat_template.h"

#include <ctime>
#include <optional>
#include <utility>

#include "text/chat_messages.h"
#include "text/chat_template_files.h"
#include "text/jinja/template.h"
#include "text/jinja/unicode.h"

namespace donar::text {
namespace {

// Stands at the end of a message that is to be continued. The blank shows whether the template
// trims content.
constexpr std::string_view kMarker = "DONAR_CONTINUES_THE_MESSAGE_HERE ";

std::tm local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm broken_down{};
  localtime_r(&now, &broken_down);
  return broken_down;
}

Result<jinja::Text> cut_at_marker(const jinja::Text& rendered) {
  const std::string_view mark = kMarker.substr(0, kMarker.size() - 1);
  const size_t at = rendered.view().rfind(mark);
  if (at == std::string_view::npos) {
    return fail(
        ErrorCode::kInvalidArgument,
        "this model's chat template changes or drops the last message: it cannot be continued");
  }
  if (rendered.view().substr(at).starts_with(kMarker)) return rendered.slice(0, at);
  return rendered.slice(0, jinja::trimmed_end(rendered.view().substr(0, at)));
}

}  // namespace

struct ChatTemplate::Impl {
  std::string source;
  std::optional<jinja::Template> general;
  std::optional<jinja::Template> tool_use;
  SpecialTokens special_tokens;
  jinja::Clock clock = local_time;
};

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

Result<ChatTemplate> ChatTemplate::parse(std::string source, SpecialTokens special_tokens) {
  Result<jinja::Template> parsed = jinja::Template::parse(source);
  if (!parsed) return forward_error(parsed);
  auto impl = std::make_unique<Impl>();
  impl->source = std::move(source);
  impl->general = *std::move(parsed);
  impl->special_tokens = std::move(special_tokens);
  return ChatTemplate(std::move(impl));
}

Result<ChatTemplate> ChatTemplate::from_directory(const std::filesystem::path& directory,
                                                  SpecialTokens special_tokens) {
  Result<ChatTemplateSources> sources = find_chat_templates(directory);
  if (!sources) return forward_error(sources);
  if (!sources->general && !sources->tool_use) {
    return fail(ErrorCode::kNotFound,
                "{} has no chat template (chat_template.jinja, or chat_template in "
                "tokenizer_config.json): pass one with --chat-template",
                directory.string());
  }
  auto impl = std::make_unique<Impl>();
  impl->source = sources->general ? *sources->general : *sources->tool_use;
  impl->special_tokens = std::move(special_tokens);
  for (auto [source, parsed] : {std::pair{&sources->general, &impl->general},
                                std::pair{&sources->tool_use, &impl->tool_use}}) {
    if (!*source) continue;
    Result<jinja::Template> result = jinja::Template::parse(**source);
    if (!result)
      return fail(result.error().code, "{}: {}", directory.string(), result.error().message);
    *parsed = *std::move(result);
  }
  return ChatTemplate(std::move(impl));
}

Result<RenderedPrompt> ChatTemplate::render(const ChatInput& input) const {
  const bool with_tools = !input.tools.empty();
  const std::optional<jinja::Template>& chosen =
      with_tools && impl_->tool_use ? impl_->tool_use : impl_->general;
  if (!chosen)
    return fail(ErrorCode::kInvalidArgument,
                "this model's only chat template is for requests with tools: send tools");

  Result<json::array> messages = prepare_messages(input.messages, input.openai_messages);
  if (!messages) return forward_error(messages);
  if (input.continue_final_message) {
    if (Result<void> marked = mark_end_of_last_message(*messages, kMarker); !marked)
      return forward_error(marked);
  }

  jinja::Variables variables;
  const auto add = [&](std::string_view name, const json::value& value) {
    variables.emplace_back(name, jinja::Value::from_json(value, /*untrusted=*/true));
  };
  try {
    // The first of two equal names is the one that counts: the request's own variables, its kwargs,
    // the special tokens.
    add("messages", *messages);
    add("tools", with_tools ? json::value(input.tools) : json::value(nullptr));
    add("documents", input.documents.empty() ? json::value(nullptr) : json::value(input.documents));
    variables.emplace_back(
        "add_generation_prompt",
        jinja::Value::boolean(input.add_generation_prompt && !input.continue_final_message));
    for (const auto& [name, value] : variables) {
      if (input.kwargs.if_contains(name) == nullptr) continue;
      return tl::unexpected<Error>(Error{
          ErrorCode::kInvalidArgument,
          fmt::format(
              "chat_template_kwargs cannot set '{}': the request has a field of its own for it",
              name),
          "chat_template_kwargs"});
    }
    for (const auto& member : input.kwargs) add(member.key(), member.value());
  } catch (const jinja::TemplateError& error) {
    return fail(ErrorCode::kInvalidArgument, "{}", error.message);
  }
  for (const auto& [name, token] : impl_->special_tokens)
    variables.emplace_back(name, jinja::Value::string(token));

  Result<jinja::Text> rendered = chosen->render(variables, impl_->clock);
  if (rendered && input.continue_final_message) rendered = cut_at_marker(*rendered);
  if (!rendered) return forward_error(rendered);
  return RenderedPrompt{rendered->bytes(), rendered->untrusted_ranges()};
}

bool ChatTemplate::uses_tools() const {
  return (impl_->general && impl_->general->reads("tools")) ||
         (impl_->tool_use && impl_->tool_use->reads("tools"));
}

const std::string& ChatTemplate::source() const { return impl_->source; }

void ChatTemplate::set_clock(std::function<std::tm()> now) { impl_->clock = std::move(now); }

}  // namespace donar::text

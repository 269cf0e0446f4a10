// The fields of a chat request that completions do not have.
#include "server/chat_request.h"

namespace donar::server {
namespace {

void read_tools(FieldReader& fields, ChatRequest& request) {
  const json::array* tools = fields.array("tools");
  if (tools != nullptr) {
    for (const json::value& tool : *tools) {
      const json::object* object = tool.if_object();
      const json::value* function = object == nullptr ? nullptr : object->if_contains("function");
      const json::object* inner = function == nullptr ? nullptr : function->if_object();
      const json::value* name = inner == nullptr ? nullptr : inner->if_contains("name");
      if (name == nullptr || !name->is_string()) {
        fields.fail(
            "tools",
            "every tool must look like {\"type\": \"function\", \"function\": {\"name\": ...}}");
        return;
      }
    }
    request.tools = *tools;
  }
  const json::value* choice = fields.find("tool_choice");
  if (choice == nullptr) return;
  if (choice->is_string()) {
    const json::string& text = choice->get_string();
    if (text == "auto") return;
    if (text == "none") {
      request.tools.clear();
      return;
    }
    if (text != "required") {
      fields.fail("tool_choice",
                  "tool_choice must be \"auto\", \"none\", \"required\" or a named tool");
      return;
    }
  }
  fields.fail(
      "tool_choice",
      "tool_choice \"required\" and named tools are not supported yet: use \"auto\" or \"none\"");
}

void read_logprobs(FieldReader& fields, const RequestLimits& limits, ChatRequest& request) {
  const bool wanted = fields.boolean("logprobs").value_or(false);
  const auto count = fields.integer("top_logprobs");
  if (count) {
    check_logprob_count(fields, "top_logprobs", *count, limits);
    if (*count > 0 && !wanted)
      fields.fail("top_logprobs", "when using `top_logprobs`, `logprobs` must be set to true.");
  }
  if (wanted) request.common.sampling.num_logprobs = static_cast<int>(count.value_or(0));
}

}  // namespace

void read_chat_prompt_fields(FieldReader& fields, ChatRequest& request) {
  if (const json::array* messages = fields.array("messages")) {
    request.messages = *messages;
    if (messages->empty()) fields.fail("messages", "messages must hold at least one message");
  } else {
    fields.fail("messages", "messages is required: a list of {\"role\", \"content\"} objects");
  }
  read_tools(fields, request);
  if (const json::array* documents = fields.array("documents")) {
    for (const json::value& document : *documents)
      if (!document.is_object()) fields.fail("documents", "every document must be an object");
    request.documents = *documents;
  }
  if (const json::object* kwargs = fields.object("chat_template_kwargs")) request.kwargs = *kwargs;
  if (const auto effort = fields.string("reasoning_effort"))
    request.kwargs.emplace("reasoning_effort", *effort);  // an explicit keyword wins
  request.add_generation_prompt = fields.boolean("add_generation_prompt").value_or(true);
  request.continue_final_message = fields.boolean("continue_final_message").value_or(false);
  if (request.add_generation_prompt && request.continue_final_message)
    fields.fail("continue_final_message",
                "Cannot set both `continue_final_message` and `add_generation_prompt` to True.");
  request.common.add_special_tokens = fields.boolean("add_special_tokens").value_or(false);
  if (fields.find("chat_template") != nullptr)
    fields.fail(
        "chat_template",
        "chat_template in a request is refused: give it to the server with --chat-template");
}

void warn_unknown_fields(const FieldReader& fields, WarnOnce& warnings) {
  for (const std::string_view name : fields.unknown()) {
    const std::string_view shown = name.substr(0, 80);
    warnings.warn(shown, fmt::format("unknown request field \"{}\" is ignored", shown));
  }
}

Result<ChatRequest> parse_chat_request(const json::value& body, const RequestLimits& limits,
                                       WarnOnce& warnings) {
  const json::object* object = body.if_object();
  if (object == nullptr)
    return fail(ErrorCode::kInvalidArgument, "the request body must be a JSON object");
  FieldReader fields(*object);
  ChatRequest request;
  request.common = read_common_fields(fields, limits);
  read_chat_prompt_fields(fields, request);
  read_logprobs(fields, limits, request);
  for (const char* name : {"max_tokens", "max_completion_tokens"}) {  // the newer name wins
    const auto value = fields.integer(name);
    if (!value) continue;
    if (*value < 1) fields.fail(name, fmt::format("{} must be at least 1, got {}.", name, *value));
    request.common.max_tokens = value;
  }
  fields.boolean(
      "parallel_tool_calls");  // the answer is the model's text; nothing is parsed out of it
  fields.refuse({"audio", "web_search_options"}, "");
  if (const auto modalities = fields.strings("modalities"))
    for (const std::string& modality : *modalities)
      if (modality != "text")
        fields.fail("modalities", "the only modality of an answer is \"text\"");
  fields.refuse({"functions"}, "use tools");
  fields.ignore({"function_call", "prediction", "verbosity"});
  if (fields.error()) return tl::unexpected<Error>(*fields.error());
  warn_unknown_fields(fields, warnings);
  return request;
}

}  // namespace donar::server

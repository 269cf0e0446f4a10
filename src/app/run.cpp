// donar run: chat in the terminal; with a pipe as input, one answer per line.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>

#include "app/chat_commands.h"
#include "app/commands.h"
#include "app/session.h"
#include "app/signals.h"
#include "app/term/line_editor.h"
#include "app/term/progress.h"

namespace donar::app {
namespace {

struct Answer {
  std::string text;
  engine::RequestTiming timing;
  engine::FinishReason finish = engine::FinishReason::kNone;
};

const char* reason_name(engine::FinishReason reason) {
  switch (reason) {
    case engine::FinishReason::kStop:
      return "stop";
    case engine::FinishReason::kLength:
      return "length";
    case engine::FinishReason::kAbort:
      return "stopped";
    case engine::FinishReason::kError:
      return "error";
    case engine::FinishReason::kNone:
      break;
  }
  return "?";
}

void print_stats(const Answer& answer) {
  const engine::RequestTiming& t = answer.timing;
  const double first = seconds_between(t.arrived, t.first_token);
  const double rest = seconds_between(t.first_token, t.last_token);
  const double rate = t.generated_tokens > 1 && rest > 0.0 ? (t.generated_tokens - 1) / rest : 0.0;
  const bool color = isatty(STDERR_FILENO) != 0;
  fmt::print(stderr,
             "{}[{} tokens, {:.1f} tok/s, first after {:.0f} ms, prompt {} ({} cached), {}]{}\n",
             color ? "\x1b[2m" : "", t.generated_tokens, rate, first * 1e3, t.prompt_tokens,
             t.cached_tokens, reason_name(answer.finish), color ? "\x1b[0m" : "");
}

Result<engine::Request> make_request(const Session& session, const Conversation& conversation) {
  text::ChatInput input;
  input.messages = conversation.with_system();
  Result<text::RenderedPrompt> prompt = session.text.chat_template->render(input);
  if (!prompt) return forward_error(prompt);
  engine::Request request;
  text::EncodeOptions encode;
  encode.untrusted = prompt->untrusted;
  request.prompt = session.text.tokenizer->encode(prompt->text, encode);
  request.sampling = conversation.sampling;
  const int64_t room =
      session.engine->max_model_len() - static_cast<int64_t>(request.prompt.size());
  if (room < 1)
    return fail(ErrorCode::kInvalidArgument,
                "the conversation has {} tokens and fills the context of {}; /clear starts anew",
                request.prompt.size(), session.engine->max_model_len());
  request.max_tokens = static_cast<int>(
      conversation.max_tokens > 0 ? std::min<int64_t>(conversation.max_tokens, room) : room);
  return request;
}

// Streams one answer to stdout. Ctrl-C ends the answer, not the program.
Result<Answer> answer(Session& session, const Conversation& conversation, SignalWaiter& signals) {
  Result<engine::Request> request = make_request(session, conversation);
  if (!request) return forward_error(request);
  text::StreamDecoder decoder(*session.text.tokenizer, /*skip_special_tokens=*/true);
  decoder.prime(request->prompt);
  signals.discard_pending();
  Result<engine::Stream> stream = session.engine->submit(std::move(*request));
  if (!stream) return forward_error(stream);
  stream->set_on_ready([&signals] { signals.notify(); });

  Answer out;
  const auto show = [&out](const std::string& text) {
    out.text += text;
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  };
  while (!stream->finished()) {
    while (std::optional<engine::TokenEvent> event = stream->try_pop()) {
      if (event->error) return tl::unexpected<Error>(std::move(*event->error));
      if (event->ended_by_token) event->tokens.pop_back();
      for (const int32_t token : event->tokens) show(decoder.push(token));
      if (event->finish != engine::FinishReason::kNone) out.finish = event->finish;
    }
    if (stream->finished()) break;
    if (signals.wait() == SignalWaiter::Wake::kSignal) stream->cancel(engine::FinishReason::kAbort);
  }
  stream->set_on_ready({});
  show(decoder.flush());
  show("\n");
  out.timing = stream->timing();
  return out;
}

// Asks, shows, remembers. A failed turn is taken back, so that the conversation stays usable.
Result<void> turn(Session& session, Conversation& conversation, const std::string& line,
                  SignalWaiter& signals) {
  conversation.messages.push_back(json::object{{"role", "user"}, {"content", line}});
  Result<Answer> reply = answer(session, conversation, signals);
  if (!reply) {
    conversation.messages.pop_back();
    return forward_error(reply);
  }
  conversation.messages.push_back(json::object{{"role", "assistant"}, {"content", reply->text}});
  print_stats(*reply);
  return {};
}

Result<int> chat(Session& session, Conversation& conversation, SignalWaiter& signals) {
  term::LineEditor editor(">>> ");
  if (editor.is_terminal())
    fmt::print("{} ({}). /help lists commands, Ctrl-D leaves.\n", session.model, session.precision);
  int code = 0;
  while (std::optional<std::string> line = editor.read_line()) {
    if (line->find_first_not_of(" \t") == std::string::npos) continue;
    if (line->starts_with('/')) {
      const CommandReply reply = run_chat_command(*line, conversation);
      fmt::print("{}", reply.text);
      if (reply.leave) return code;
      continue;
    }
    if (Result<void> done = turn(session, conversation, *line, signals); !done) {
      fmt::print(stderr, "{}\n", done.error().message);
      if (!session.engine->healthy()) return forward_error(done);
      code = editor.is_terminal() ? 0 : 1;
    }
  }
  if (editor.is_terminal()) fmt::print("\n");
  return code;
}

Conversation new_conversation(const Options& options, const Session& session) {
  Conversation conversation;
  conversation.system = options.chat.system;
  conversation.max_tokens = options.chat.max_tokens;
  conversation.sampling = options.chat.sampling;
  apply_generation_config(session.generation_config, conversation.sampling);
  for (const std::string& name : options.chat.set) {  // flags win over the model's defaults
    if (name == "temperature")
      conversation.sampling.temperature = options.chat.sampling.temperature;
    if (name == "top_p") conversation.sampling.top_p = options.chat.sampling.top_p;
    if (name == "top_k") conversation.sampling.top_k = options.chat.sampling.top_k;
  }
  return conversation;
}

}  // namespace

Result<int> run(const Options& given) {
  Options options = given;
  options.engine.max_num_seqs = 1;  // one reader, so one context's worth of KV cache
  // From a pipe Ctrl-C should end the program as usual, so it is only caught on a terminal.
  const bool interactive = isatty(STDIN_FILENO) != 0 && options.chat.prompt.empty();
  SignalWaiter signals(interactive ? std::initializer_list<int>{SIGINT}
                                   : std::initializer_list<int>{});
  Memory memory;
  Result<Session> session = fail(ErrorCode::kInternal, "not loaded");
  {
    term::Progress progress(isatty(STDERR_FILENO) != 0);
    SessionCallbacks callbacks;
    callbacks.on_progress = [&progress](const server::LoadProgress& now) { progress.update(now); };
    session = open_session(options, memory, callbacks);
  }
  if (!session) return forward_error(session);
  if (session->text.chat_template == nullptr)
    return fail(ErrorCode::kInvalidArgument,
                "{} has no chat template; give one with --chat-template", session->model);
  Conversation conversation = new_conversation(options, *session);
  if (options.chat.prompt.empty()) return chat(*session, conversation, signals);
  if (Result<void> done = turn(*session, conversation, options.chat.prompt, signals); !done)
    return forward_error(done);
  return 0;
}

}  // namespace donar::app

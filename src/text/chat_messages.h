// What happens to a request's messages before a chat template sees them.
#pragma once

#include "base/error.h"
#include "base/json.h"

namespace donar::text {

// Always, as in Transformers: keys with null are dropped; the first of reasoning_content, thinking
// and reasoning is copied to reasoning_content, and to thinking if that is missing. `openai`: an
// assistant without content gets "" (templates concatenate it), empty tool_calls are dropped, and
// arguments of tool calls, JSON text in OpenAI's API, become the value that templates expect
// (tojson would quote the text). kInvalidArgument names the place.
Result<json::array> prepare_messages(const json::array& messages, bool openai);

// Appends `marker` to the text of the last message: rendering stops there later. kInvalidArgument
// if it has no text.
Result<void> mark_end_of_last_message(json::array& messages, std::string_view marker);

}  // namespace donar::text

// A model's tokenizer, chat template and sampling defaults, from its directory or from GGUF
// metadata.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "app/options.h"
#include "base/json.h"
#include "model/model.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace donar::app {

struct ModelText {
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::shared_ptr<const text::ChatTemplate> chat_template;  // null: the model has none
  std::vector<int32_t>
      end_tokens;  // beside the config's own: the tokenizer's eos, GGUF's end of turn
};

Result<ModelText> load_text(const Options& options, const model::ModelFiles& files);

// The keys tokenizer.ggml.* as plain data. kNotFound if the file has no vocabulary.
Result<text::GgufVocabulary> gguf_vocabulary(const model::Checkpoint& checkpoint);

// --generation-config: auto (the model's), vllm (empty), or a path of a directory or file.
Result<json::object> load_generation_config(const std::string& where,
                                            const model::ModelFiles& files);

}  // namespace donar::app

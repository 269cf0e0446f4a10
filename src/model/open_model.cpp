// From a path to what a model is: which files belong to it, its config and its index. No weights
// are read, but for the few frequency divisors of a GGUF file.
#include <algorithm>
#include <cmath>

#include "model/arch/family.h"
#include "model/model.h"

namespace donar::model {
namespace {

namespace fs = std::filesystem;

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

Result<json::object> read_json_object(const fs::path& path) {
  const Result<std::string> text = read_text_file(path);
  if (!text) return tl::unexpected(text.error());
  Result<json::value> value = parse_json(*text);
  if (!value) return fail(ErrorCode::kDataLoss, "{}: {}", path.string(), value.error().message);
  if (!value->is_object())
    return fail(ErrorCode::kDataLoss, "{}: expected a JSON object", path.string());
  return std::move(value->get_object());
}

// The format of most bytes in matrices.
std::string most_common_type(const Checkpoint& checkpoint) {
  std::map<std::string, uint64_t> bytes;
  for (const auto& [name, entry] : checkpoint.tensors)
    if (entry.shape.size() >= 2) bytes[entry.stored_type] += entry.bytes;
  const auto most = std::max_element(
      bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == bytes.end() ? "BF16" : most->first;  // no weights: what dummy weights will be
}

Result<void> read_rope_freqs(const Checkpoint& checkpoint, ModelConfig& config) {
  constexpr std::string_view kName = "rope_freqs.weight";
  if (!checkpoint.contains(kName)) return {};
  const int64_t count = config.head_dim / 2;
  Result<const TensorEntry*> entry = checkpoint.find(kName, {count});
  if (!entry) return forward_error(entry);
  const File& file = checkpoint.files[static_cast<size_t>((*entry)->file)];
  std::vector<std::byte> stored((*entry)->bytes);
  Result<void> read = file.read_at((*entry)->offset, stored);
  if (!read) return read;
  config.rope.frequency_divisors.resize(static_cast<size_t>(count));
  quant::unpack_row((*entry)->format, stored.data(), count, config.rope.frequency_divisors.data());
  for (const float divisor : config.rope.frequency_divisors)
    if (!(divisor > 0.0f) || !std::isfinite(divisor))
      return fail(ErrorCode::kDataLoss, "{}: tensor {}: expected numbers above 0, found {}",
                  file.path().string(), kName, divisor);
  return {};
}

Result<ModelFiles> open_gguf_model(const fs::path& path) {
  Result<Checkpoint> checkpoint = open_gguf(path);
  if (!checkpoint) return forward_error(checkpoint);
  Result<ModelConfig> config = arch::config_from_gguf(*checkpoint);
  if (!config) return forward_error(config);
  Result<void> freqs = read_rope_freqs(*checkpoint, *config);
  if (!freqs) return forward_error(freqs);
  std::string precision = most_common_type(*checkpoint);
  return ModelFiles{std::move(*checkpoint), std::move(*config), {}, std::move(precision)};
}

Result<ModelFiles> open_hugging_face_model(const fs::path& directory) {
  const fs::path config_path = directory / "config.json";
  Result<json::object> object = read_json_object(config_path);
  if (!object) return forward_error(object);
  Result<ModelConfig> config = arch::config_from_json(*object, config_path.string());
  if (!config) return forward_error(config);
  if (is_there(directory / "hf_quant_config.json"))
    return fail(
        ErrorCode::kUnsupported,
        "{}: quantized weights are not supported yet: use a BF16 or F16 checkpoint or a GGUF "
        "file",
        (directory / "hf_quant_config.json").string());
  Result<Checkpoint> checkpoint = open_safetensors_directory(directory);
  if (!checkpoint) return forward_error(checkpoint);
  json::object generation_config;
  if (const fs::path path = directory / "generation_config.json"; is_there(path)) {
    Result<json::object> read = read_json_object(path);
    if (!read) return forward_error(read);
    generation_config = std::move(*read);
    arch::add_eos_tokens(generation_config, *config);
  }
  std::string precision = most_common_type(*checkpoint);
  return ModelFiles{std::move(*checkpoint), std::move(*config), std::move(generation_config),
                    std::move(precision)};
}

// The .gguf files of a directory, without the later parts of split ones, sorted; and whether it has
// safetensors.
struct DirectoryContent {
  std::vector<fs::path> gguf;
  bool has_safetensors = false;
};

Result<DirectoryContent> look_into(const fs::path& directory) {
  DirectoryContent content;
  std::error_code error;
  fs::directory_iterator entries(directory, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    const std::string name = entries->path().filename().string();
    if (name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json"))
      content.has_safetensors = true;
    if (!name.ends_with(".gguf")) continue;
    const size_t part = name.rfind("-of-");  // NAME-00002-of-00003.gguf
    const bool is_later_part = part != std::string::npos && part >= 6 && name[part - 6] == '-' &&
                               name.substr(part - 5, 5) != "00001";
    if (!is_later_part) content.gguf.push_back(entries->path());
  }
  if (error)
    return fail(ErrorCode::kPermissionDenied, "cannot list {}: {}", directory.string(),
                error.message());
  std::sort(content.gguf.begin(), content.gguf.end());
  return content;
}

}  // namespace

Result<ModelFiles> open_model(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status))
    return fail(ErrorCode::kNotFound,
                "{} does not exist: expected a directory with config.json or a .gguf file",
                path.string());
  if (!fs::is_directory(status)) {
    if (path.extension() == ".safetensors")
      return fail(ErrorCode::kInvalidArgument,
                  "{}: one file of a model: give its directory, where config.json is",
                  path.string());
    return open_gguf_model(path);
  }
  const Result<DirectoryContent> content = look_into(path);
  if (!content) return tl::unexpected(content.error());
  if (content->has_safetensors || content->gguf.empty()) {
    if (!is_there(path / "config.json"))
      return fail(ErrorCode::kNotFound,
                  "{}: no config.json and no .gguf file: this is no model directory",
                  path.string());
    return open_hugging_face_model(path);
  }
  if (content->gguf.size() > 1)
    return fail(ErrorCode::kInvalidArgument,
                "{}: {} GGUF files, {} and {} among them: give the path of one", path.string(),
                content->gguf.size(), content->gguf[0].filename().string(),
                content->gguf[1].filename().string());
  return open_gguf_model(content->gguf.front());
}

}  // namespace donar::model

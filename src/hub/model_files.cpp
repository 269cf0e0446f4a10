#include "hub/model_files.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/json.h"

namespace donar::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kLfsPointer = "version https://git-lfs.github.com/spec/v1";
constexpr size_t kMaxLfsPointerBytes = 200;

std::string cure(const DirectoryCheck& check) {
  return check.is_snapshot
             ? "the snapshot in the cache is partial; complete it with `hf download " +
                   check.model + "`"
             : "copy it there, or give another directory";
}

Result<void> check_not_lfs_pointer(const fs::path& file) {
  std::error_code error;
  const auto size = fs::file_size(file, error);
  if (error || size >= kMaxLfsPointerBytes) return {};
  Result<std::string> text = read_text_file(file, kMaxLfsPointerBytes);
  if (!text) return forward_error(text);
  if (!text->starts_with(kLfsPointer)) return {};
  return fail(ErrorCode::kDataLoss,
              "{} is a Git LFS pointer, not the data: the repository was cloned without LFS; run "
              "`git lfs pull` in it, or download "
              "it with `hf download`",
              file.string());
}

// `name` exists in `directory`, through symbolic links, and is data.
Result<void> check_file(const fs::path& directory, const std::string& name,
                        const DirectoryCheck& check) {
  const fs::path file = directory / name;
  std::error_code ignored;
  if (fs::is_regular_file(file, ignored)) return check_not_lfs_pointer(file);
  if (fs::is_symlink(file, ignored))
    return fail(ErrorCode::kNotFound, "{} is a link to {}, which does not exist: {}", file.string(),
                fs::read_symlink(file, ignored).string(), cure(check));
  return fail(ErrorCode::kNotFound, "{} is missing in {}: {}", name, directory.string(),
              cure(check));
}

bool is_later_part(const std::string& name) {  // NAME-00002-of-00003.gguf
  const size_t of = name.rfind("-of-");
  return of != name.npos && of >= 6 && name[of - 6] == '-' && name.substr(of - 5, 5) != "00001" &&
         std::all_of(name.begin() + static_cast<ptrdiff_t>(of) - 5,
                     name.begin() + static_cast<ptrdiff_t>(of),
                     [](char c) { return c >= '0' && c <= '9'; });
}

struct Listing {
  std::vector<std::string> safetensors, gguf;
  bool other_weights = false;  // *.bin, *.pth: formats that are not read here
};

Result<Listing> list(const fs::path& directory) {
  Listing out;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".safetensors") && !name.starts_with("consolidated"))
      out.safetensors.push_back(name);
    if (name.ends_with(".gguf") && !is_later_part(name)) out.gguf.push_back(name);
    if (name.ends_with(".bin") || name.ends_with(".pth")) out.other_weights = true;
  }
  if (error)
    return fail(ErrorCode::kPermissionDenied, "cannot list {}: {}", directory.string(),
                error.message());
  std::sort(out.safetensors.begin(), out.safetensors.end());
  std::sort(out.gguf.begin(), out.gguf.end());
  return out;
}

// The shards that the index names. What else is wrong with the index, the loader says.
Result<std::set<std::string>> shards_of(const fs::path& index) {
  std::set<std::string> shards;
  Result<std::string> text = read_text_file(index);
  if (!text) return forward_error(text);
  Result<json::value> value = parse_json(*text);
  if (!value) return fail(ErrorCode::kDataLoss, "{}: {}", index.string(), value.error().message);
  const json::object* root = value->if_object();
  const json::value* map = root != nullptr ? root->if_contains("weight_map") : nullptr;
  if (map == nullptr || !map->is_object())
    return fail(ErrorCode::kDataLoss, "{} has no \"weight_map\" object", index.string());
  for (const auto& [tensor, file] : map->get_object()) {
    const std::string name = file.is_string() ? std::string(file.get_string()) : std::string();
    if (name.empty() || name.find('/') != name.npos)
      return fail(ErrorCode::kDataLoss,
                  "{}: the file of tensor {} is not the name of a file beside it", index.string(),
                  std::string(tensor));
    shards.insert(name);
  }
  return shards;
}

Result<void> check_weights(const fs::path& directory, const Listing& listing,
                           const DirectoryCheck& check) {
  constexpr const char* kIndex = "model.safetensors.index.json";
  std::error_code ignored;
  const bool single = fs::exists(directory / "model.safetensors", ignored);
  if (!single &&
      (fs::exists(directory / kIndex, ignored) || fs::is_symlink(directory / kIndex, ignored))) {
    if (Result<void> ok = check_file(directory, kIndex, check); !ok) return ok;
    Result<std::set<std::string>> shards = shards_of(directory / kIndex);
    if (!shards) return forward_error(shards);
    size_t missing = 0;
    std::string first;
    for (const std::string& name : *shards) {
      if (fs::exists(directory / name, ignored)) continue;
      if (missing++ == 0) first = name;
    }
    if (missing > 0)
      return fail(ErrorCode::kNotFound,
                  "{} of {} weight files are missing in {}, the first is {}: {}", missing,
                  shards->size(), directory.string(), first, cure(check));
  }
  for (const std::string& name : listing.safetensors)
    if (Result<void> ok = check_file(directory, name, check); !ok) return ok;
  if (listing.safetensors.empty() && listing.other_weights)
    return fail(ErrorCode::kUnsupported,
                "{} holds pickled weights (*.bin) only, which are not read here; convert them to "
                "safetensors",
                directory.string());
  if (listing.safetensors.empty())
    return fail(ErrorCode::kNotFound, "no weights (*.safetensors) in {}: {}", directory.string(),
                cure(check));
  return {};
}

}  // namespace

Result<fs::path> check_gguf_file(const fs::path& file) {
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored))
    return fail(ErrorCode::kInvalidArgument, "{} is neither a directory nor a regular file",
                file.string());
  if (Result<void> ok = check_not_lfs_pointer(file); !ok) return forward_error(ok);
  if (file.extension() != ".gguf")
    return fail(ErrorCode::kInvalidArgument,
                "{} is a file, but not a .gguf file; for safetensors give the directory that holds "
                "config.json and the weights",
                file.string());
  return file;
}

Result<fs::path> check_directory(const fs::path& directory, const DirectoryCheck& check) {
  Result<Listing> listing = list(directory);
  if (!listing) return forward_error(listing);
  std::error_code ignored;
  const fs::path config = directory / "config.json";
  if (!fs::exists(config, ignored) && !fs::is_symlink(config, ignored) && !listing->gguf.empty()) {
    if (listing->gguf.size() == 1) return check_gguf_file(directory / listing->gguf.front());
    std::string names;
    for (const std::string& name : listing->gguf) names += (names.empty() ? "" : ", ") + name;
    return fail(ErrorCode::kInvalidArgument, "{} holds several .gguf files; give one of them: {}",
                directory.string(), names);
  }
  if (Result<void> ok = check_file(directory, "config.json", check); !ok) return forward_error(ok);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "generation_config.json"}) {
    if (!fs::exists(directory / name, ignored) && !fs::is_symlink(directory / name, ignored))
      continue;
    if (Result<void> ok = check_file(directory, name, check); !ok) return forward_error(ok);
  }
  if (check.needs_weights)
    if (Result<void> ok = check_weights(directory, *listing, check); !ok) return forward_error(ok);
  return directory;
}

}  // namespace donar::hub

#include "hub/resolve.h"

#include <algorithm>
#include <cctype>
#include <string_view>
#include <system_error>
#include <vector>

#include "hub/model_files.h"

namespace donar::hub {
namespace {

namespace fs = std::filesystem;
using Environment = std::map<std::string, std::string>;

std::string lookup(const Environment& environment, const std::string& name) {
  const auto it = environment.find(name);
  return it == environment.end() ? std::string() : it->second;
}

// `~`, $VAR and ${VAR}, as Python's expanduser and expandvars do; unknown variables stay as they
// are.
std::string expand(std::string path, const Environment& environment) {
  if (path == "~" || path.starts_with("~/")) path = lookup(environment, "HOME") + path.substr(1);
  std::string out;
  for (size_t i = 0; i < path.size();) {
    if (path[i] != '$') {
      out += path[i++];
      continue;
    }
    const bool braces = i + 1 < path.size() && path[i + 1] == '{';
    const size_t begin = i + 1 + braces;
    size_t end = begin;
    while (end < path.size() &&
           (std::isalnum(static_cast<unsigned char>(path[end])) || path[end] == '_'))
      ++end;
    const bool closed = !braces || (end < path.size() && path[end] == '}');
    const auto it = environment.find(path.substr(begin, end - begin));
    const size_t next = end + (braces && closed);
    out += it != environment.end() && closed ? it->second : path.substr(i, next - i);
    i = next;
  }
  return out;
}

bool is_commit(std::string_view text) {
  return text.size() == 40 &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isxdigit(c); });
}

// NAME or ORG/NAME in the hub's alphabet. Anything else cannot be a repository and must not become
// a path.
bool is_repository_id(std::string_view id) {
  if (id.empty() || id.size() > 96 * 2 || id.find("..") != id.npos || id.find("--") != id.npos)
    return false;
  if (std::count(id.begin(), id.end(), '/') > 1) return false;
  bool part_begins = true;
  for (const char c : id) {
    if (c == '/') {
      if (part_begins) return false;
      part_begins = true;
      continue;
    }
    const bool letter = std::isalnum(static_cast<unsigned char>(c)) || c == '_';
    if (!letter && (part_begins || (c != '-' && c != '.'))) return false;
    part_begins = false;
  }
  return !part_begins;
}

bool is_revision(std::string_view revision) {
  return !revision.starts_with('/') && revision.find("..") == revision.npos &&
         revision.find('\0') == revision.npos;
}

std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, ignored))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

// refs/<revision>, a commit id, or (a convenience that the reference client lacks) the only
// snapshot there is.
Result<fs::path> snapshot_of(const std::string& model, const std::string& revision,
                             const fs::path& repository) {
  std::string commit = revision;
  if (!is_commit(revision)) {
    const fs::path ref = repository / "refs" / revision;
    std::error_code ignored;
    if (fs::is_regular_file(ref, ignored)) {
      Result<std::string> text = read_text_file(ref, /*max_bytes=*/4096);
      if (!text) return forward_error(text);
      commit = *text;
      commit.erase(std::remove_if(commit.begin(), commit.end(),
                                  [](unsigned char c) { return std::isspace(c); }),
                   commit.end());
      if (!is_commit(commit))
        return fail(
            ErrorCode::kDataLoss,
            "{} should hold a commit of 40 hex digits, but holds \"{}\"; download the model again",
            ref.string(), commit);
    } else {
      const std::vector<std::string> snapshots = names_in(repository / "snapshots");
      if (revision != "main" || snapshots.size() != 1)
        return fail(ErrorCode::kNotFound,
                    "revision \"{}\" of {} is not in the cache: {} is missing{}", revision, model,
                    ref.string(),
                    snapshots.empty() ? "" : "; cached snapshots: " + joined(snapshots));
      commit = snapshots.front();
    }
  }
  const fs::path snapshot = repository / "snapshots" / commit;
  std::error_code ignored;
  if (!fs::is_directory(snapshot, ignored))
    return fail(ErrorCode::kNotFound,
                "{} at {} is not in the cache: {} is missing; download it with `hf download {} "
                "--revision {}`",
                model, revision, snapshot.string(), model, revision);
  return snapshot;
}

bool looks_like_a_path(std::string_view model) {
  return model.starts_with('/') || model.starts_with('.') || model.starts_with('~') ||
         model.ends_with(".gguf") || model.ends_with('/');
}

}  // namespace

CacheLocation cache_location(const Environment& environment) {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (const std::string value = lookup(environment, name); !value.empty())
      return {expand(value, environment)};
  if (const std::string home = lookup(environment, "HF_HOME"); !home.empty())
    return {fs::path(expand(home, environment)) / "hub"};
  const std::string xdg = lookup(environment, "XDG_CACHE_HOME");
  const fs::path base = xdg.empty() ? fs::path(lookup(environment, "HOME")) / ".cache"
                                    : fs::path(expand(xdg, environment));
  return {base / "huggingface" / "hub"};
}

Result<fs::path> resolve_model(const std::string& model, const std::string& revision,
                               const CacheLocation& cache, bool needs_weights) {
  if (model.empty()) return fail(ErrorCode::kInvalidArgument, "the name of the model is empty");
  if (model.find('\0') != model.npos)
    return fail(ErrorCode::kInvalidArgument, "the name of the model holds a NUL byte");

  const fs::path path(model);
  std::error_code ignored;
  if (fs::is_directory(path, ignored))
    return check_directory(path, {/*is_snapshot=*/false, needs_weights, model});
  if (fs::exists(path, ignored)) return check_gguf_file(path);
  if (fs::is_symlink(path, ignored))
    return fail(ErrorCode::kNotFound, "{} is a symbolic link to {}, which does not exist", model,
                fs::read_symlink(path, ignored).string());
  if (looks_like_a_path(model) || !is_repository_id(model))
    return fail(ErrorCode::kNotFound,
                "{} does not exist; give a directory in Hugging Face layout, a .gguf file, or a "
                "repository id such as "
                "Qwen/Qwen3-0.6B that is in the cache {}",
                model, cache.hub_cache.string());

  const std::string wanted = revision.empty() ? "main" : revision;
  if (!is_revision(wanted))
    return fail(ErrorCode::kInvalidArgument, "\"{}\" is not the name of a revision", wanted);
  std::string folder = "models--" + model;
  if (const size_t slash = folder.find('/'); slash != folder.npos) folder.replace(slash, 1, "--");
  const fs::path repository = cache.hub_cache / folder;
  if (!fs::is_directory(repository, ignored))
    return fail(ErrorCode::kNotFound,
                "{} is neither a directory nor a file here, and not in the Hugging Face cache ({} "
                "is missing); download it with "
                "`hf download {}`, or set HF_HOME or HF_HUB_CACHE to the cache that has it",
                model, repository.string(), model);
  Result<fs::path> snapshot = snapshot_of(model, wanted, repository);
  if (!snapshot) return snapshot;
  return check_directory(*snapshot, {/*is_snapshot=*/true, needs_weights, model});
}

}  // namespace donar::hub

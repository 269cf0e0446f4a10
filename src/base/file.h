// Reading files: whole small texts, and exact ranges of large ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "base/error.h"

namespace donar {

// The whole file as text. kNotFound, kPermissionDenied, kPayloadTooLarge (over max_bytes); messages
// name the path.
Result<std::string> read_text_file(const std::filesystem::path& path,
                                   size_t max_bytes = size_t{64} << 20);

// A read-only file; move-only, closes itself. Thread-safe for reads.
class File {
 public:
  static Result<File> open(const std::filesystem::path& path);
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  // Fills `out` from `offset`; kDataLoss if the file ends before.
  Result<void> read_at(uint64_t offset, std::span<std::byte> out) const;
  uint64_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }
  int fd() const { return fd_; }

 private:
  File() = default;
  int fd_ = -1;
  uint64_t size_ = 0;
  std::filesystem::path path_;
};

}  // namespace donar

#include "base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace donar {
namespace {

tl::unexpected<Error> open_error(const std::filesystem::path& path, int error) {
  const ErrorCode code = error == ENOENT || error == ENOTDIR ? ErrorCode::kNotFound
                         : error == EACCES || error == EPERM ? ErrorCode::kPermissionDenied
                                                             : ErrorCode::kInternal;
  return fail(code, "cannot open {}: {}", path.string(), std::strerror(error));
}

}  // namespace

Result<std::string> read_text_file(const std::filesystem::path& path, size_t max_bytes) {
  Result<File> file = File::open(path);
  if (!file) return forward_error(file);
  if (file->size() > max_bytes)
    return fail(ErrorCode::kPayloadTooLarge,
                "{} has {} bytes, more than the {} expected of such a file", path.string(),
                file->size(), max_bytes);
  std::string text(file->size(), '\0');
  Result<void> read = file->read_at(0, std::as_writable_bytes(std::span(text)));
  if (!read) return forward_error(read);
  return text;
}

Result<File> File::open(const std::filesystem::path& path) {
  File file;
  file.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file.fd_ < 0) return open_error(path, errno);
  struct stat info {};
  if (::fstat(file.fd_, &info) != 0) return open_error(path, errno);
  if (!S_ISREG(info.st_mode))
    return fail(ErrorCode::kInvalidArgument, "{} is not a regular file", path.string());
  file.size_ = static_cast<uint64_t>(info.st_size);
  file.path_ = path;
  return file;
}

File::File(File&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), size_(other.size_), path_(std::move(other.path_)) {}

File& File::operator=(File&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = std::exchange(other.fd_, -1);
    size_ = other.size_;
    path_ = std::move(other.path_);
  }
  return *this;
}

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

Result<void> File::read_at(uint64_t offset, std::span<std::byte> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t got =
        ::pread(fd_, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      return fail(ErrorCode::kInternal, "{}: read failed: {}", path_.string(),
                  std::strerror(errno));
    if (got == 0)
      return fail(ErrorCode::kDataLoss,
                  "{}: ends at byte {}, wanted {} bytes from {}: the file is truncated",
                  path_.string(), offset + done, out.size(), offset);
    done += static_cast<size_t>(got);
  }
  return {};
}

}  // namespace donar

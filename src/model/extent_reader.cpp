// The reader thread: per extent it chooses between the page cache and O_DIRECT, and drops pages
// that it alone brought in.
#include "model/extent_reader.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace donar::model {
namespace {

constexpr uint64_t kPage =
    4096;  // O_DIRECT alignment that every common block device accepts, and the step of residency

uint64_t floor_page(uint64_t value) { return value & ~(kPage - 1); }
uint64_t ceil_page(uint64_t value) { return floor_page(value + kPage - 1); }

}  // namespace

// One file as the reader sees it: what was in the page cache before loading began, and a second
// descriptor for direct reads.
class ExtentReader::FileState {
 public:
  explicit FileState(const File& file) : file_(file), resident_(resident_pages(file)) {
    // Through /proc it is the very file that was checked, even if its path names another one by
    // now.
    direct_fd_ =
        ::open(fmt::format("/proc/self/fd/{}", file.fd()).c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
  }
  ~FileState() {
    if (direct_fd_ >= 0) ::close(direct_fd_);
  }
  FileState(const FileState&) = delete;
  FileState& operator=(const FileState&) = delete;

  // Fills `staging`, which is page aligned, and returns the place of `begin` in it.
  Result<const std::byte*> read(uint64_t begin, uint64_t end, std::byte* staging) {
    const uint64_t first = floor_page(begin);
    const bool cached = is_resident(first, end);
    if (!cached && read_direct(first, end, staging)) return staging + (begin - first);
    const Result<void> read =
        file_.read_at(first, std::span(staging, static_cast<size_t>(end - first)));
    if (!read) return tl::unexpected(read.error());
    if (!cached) drop_ours(first, end);
    return staging + (begin - first);
  }

 private:
  // One flag per page. Unknown counts as resident: then we read through the cache and drop nothing.
  static std::vector<unsigned char> resident_pages(const File& file) {
    if (file.size() == 0 || ::sysconf(_SC_PAGESIZE) != static_cast<long>(kPage)) return {};
    void* map = ::mmap(nullptr, file.size(), PROT_READ, MAP_SHARED, file.fd(), 0);
    if (map == MAP_FAILED) return {};
    std::vector<unsigned char> pages(ceil_page(file.size()) / kPage);
    if (::mincore(map, file.size(), pages.data()) != 0) pages.clear();
    ::munmap(map, file.size());
    return pages;
  }

  bool page_is_resident(uint64_t page) const {
    return page >= resident_.size() || (resident_[page] & 1) != 0;
  }

  bool is_resident(uint64_t first, uint64_t end) const {
    for (uint64_t page = first / kPage; page * kPage < end; ++page)
      if (!page_is_resident(page)) return false;
    return true;
  }

  bool read_direct(uint64_t first, uint64_t end, std::byte* staging) {
    if (direct_fd_ < 0) return false;
    const uint64_t wanted = end - first;
    for (uint64_t done = 0; done < wanted;) {
      const ssize_t got = ::pread(direct_fd_, staging + done, ceil_page(wanted) - done,
                                  static_cast<off_t>(first + done));
      if (got < 0 && errno == EINTR) continue;
      if (got <=
          0) {  // not possible on this file system, or an error that the buffered read will explain
        ::close(direct_fd_);
        direct_fd_ = -1;
        return false;
      }
      done += static_cast<uint64_t>(got);
      if (done < wanted && done % kPage != 0) return false;  // cannot go on unaligned
    }
    return true;
  }

  // Runs of pages that were not there before.
  void drop_ours(uint64_t first, uint64_t end) const {
    for (uint64_t page = first / kPage; page * kPage < end;) {
      uint64_t stop = page;
      while (stop * kPage < end && !page_is_resident(stop)) ++stop;
      if (stop > page)
        ::posix_fadvise(file_.fd(), static_cast<off_t>(page * kPage),
                        static_cast<off_t>((stop - page) * kPage), POSIX_FADV_DONTNEED);
      page = stop + 1;
    }
  }

  const File& file_;
  const std::vector<unsigned char> resident_;
  int direct_fd_ = -1;
};

uint64_t ExtentReader::staging_bytes(uint64_t max_bytes) {
  return kNumBuffers * (ceil_page(max_bytes) + 2 * kPage) + kPage;
}

ExtentReader::ExtentReader(const std::vector<File>& files, std::vector<Extent> extents)
    : files_(files), extents_(std::move(extents)), states_(files.size()) {}

Result<std::unique_ptr<ExtentReader>> ExtentReader::start(MemoryLedger& ledger,
                                                          const std::vector<File>& files,
                                                          std::vector<Extent> extents,
                                                          uint64_t max_bytes) {
  std::unique_ptr<ExtentReader> reader(new ExtentReader(files, std::move(extents)));
  reader->slot_bytes_ = ceil_page(max_bytes) + 2 * kPage;  // room for both ends rounded to pages
  Result<Buffer> buffer = Buffer::allocate(ledger, MemoryUse::kStaging, staging_bytes(max_bytes));
  if (!buffer) return forward_error(buffer);
  reader->buffer_ = std::move(*buffer);
  reader->done_.reserve(reader->extents_.size());
  reader->thread_ = std::thread([raw = reader.get()] { raw->read_all(); });
  return reader;
}

ExtentReader::~ExtentReader() {
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void ExtentReader::read_all() {
  auto* base = reinterpret_cast<std::byte*>(ceil_page(reinterpret_cast<uintptr_t>(buffer_.data())));
  for (size_t i = 0; i < extents_.size(); ++i) {
    {  // extent taken_ - 1 is still in use; its buffer and those after it must not be overwritten
      std::unique_lock lock(mutex_);
      changed_.wait(lock,
                    [&] { return stopped_ || i < kNumBuffers || i + 1 < taken_ + kNumBuffers; });
      if (stopped_) return;
    }
    Result<const std::byte*> result = read(extents_[i], base + (i % kNumBuffers) * slot_bytes_);
    const bool failed = !result;
    {
      std::lock_guard lock(mutex_);
      done_.push_back(std::move(result));
    }
    changed_.notify_all();
    if (failed) return;
  }
}

Result<const std::byte*> ExtentReader::read(const Extent& extent, std::byte* staging) {
  std::unique_ptr<FileState>& state = states_[static_cast<size_t>(extent.file)];
  if (!state) {
    for (std::unique_ptr<FileState>& other : states_)
      other.reset();  // files come one after the other
    state = std::make_unique<FileState>(files_[static_cast<size_t>(extent.file)]);
  }
  return state->read(extent.begin, extent.end, staging);
}

Result<const std::byte*> ExtentReader::next() {
  std::unique_lock lock(mutex_);
  const size_t wanted = taken_++;
  changed_.notify_all();
  changed_.wait(lock, [&] { return wanted < done_.size(); });
  return done_[wanted];
}

}  // namespace donar::model

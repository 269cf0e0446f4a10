// The reader threads: each claims the next extent as soon as there is a slot for it, chooses
// between the page cache and O_DIRECT, and drops pages that we alone brought in.
#include "model/extent_reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <span>

#include "base/check.h"

namespace donar::model {
namespace {

constexpr uint64_t kPage =
    4096;  // O_DIRECT alignment that every common block device accepts, and the step of residency

uint64_t floor_page(uint64_t value) { return value & ~(kPage - 1); }
uint64_t ceil_page(uint64_t value) { return floor_page(value + kPage - 1); }

}  // namespace

// One file as the reader sees it: what was in the page cache before loading began, and a second
// descriptor for direct reads. Shared by the threads; opened by the first that comes here.
class ExtentReader::FileState {
 public:
  FileState(const File& file, std::atomic<uint64_t>& direct_bytes,
            std::atomic<uint64_t>& cached_bytes)
      : file_(file), direct_bytes_(direct_bytes), cached_bytes_(cached_bytes) {}
  ~FileState() {
    if (direct_fd_ >= 0) ::close(direct_fd_);
  }
  FileState(const FileState&) = delete;
  FileState& operator=(const FileState&) = delete;

  // Fills `staging`, which is page aligned, and returns the place of `begin` in it.
  Result<const std::byte*> read(uint64_t begin, uint64_t end, std::byte* staging) {
    std::call_once(opened_, [this] { open(); });
    const uint64_t first = floor_page(begin);
    const bool cached = is_resident(first, end);
    if (!cached && read_direct(first, end, staging)) {
      direct_bytes_.fetch_add(end - begin, std::memory_order_relaxed);
      return staging + (begin - first);
    }
    const Result<void> read =
        file_.read_at(first, std::span(staging, static_cast<size_t>(end - first)));
    if (!read) return tl::unexpected(read.error());
    cached_bytes_.fetch_add(end - begin, std::memory_order_relaxed);
    if (!cached) drop_ours(first, end);
    return staging + (begin - first);
  }

 private:
  void open() {
    resident_ = resident_pages(file_);
    // Through /proc it is the very file that was checked, even if its path names another one by
    // now.
    direct_fd_ = ::open(fmt::format("/proc/self/fd/{}", file_.fd()).c_str(),
                        O_RDONLY | O_CLOEXEC | O_DIRECT);
    can_read_direct_.store(direct_fd_ >= 0, std::memory_order_relaxed);
  }

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
    if (!can_read_direct_.load(std::memory_order_relaxed)) return false;
    const uint64_t wanted = end - first;
    for (uint64_t done = 0; done < wanted;) {
      const ssize_t got = ::pread(direct_fd_, staging + done, ceil_page(wanted) - done,
                                  static_cast<off_t>(first + done));
      if (got < 0 && errno == EINTR) continue;
      if (got <=
          0) {  // not possible on this file system, or an error that the buffered read will explain
        can_read_direct_.store(false, std::memory_order_relaxed);
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
  std::atomic<uint64_t>& direct_bytes_;
  std::atomic<uint64_t>& cached_bytes_;
  std::once_flag opened_;  // then the next two are const
  std::vector<unsigned char> resident_;
  int direct_fd_ = -1;
  std::atomic<bool> can_read_direct_{false};
};

uint64_t ExtentReader::staging_bytes(uint64_t max_bytes, int slots) {
  // Both ends of an extent are rounded to pages, and so is the first slot.
  return static_cast<uint64_t>(slots) * (ceil_page(max_bytes) + 2 * kPage) + kPage;
}

ExtentReader::ExtentReader(const std::vector<File>& files, std::vector<Extent> extents, int slots)
    : extents_(std::move(extents)), slots_(static_cast<size_t>(slots)), done_(extents_.size()) {
  for (const File& file : files)
    states_.push_back(std::make_unique<FileState>(file, direct_bytes_, cached_bytes_));
}

Result<std::unique_ptr<ExtentReader>> ExtentReader::start(MemoryLedger& ledger,
                                                          const std::vector<File>& files,
                                                          std::vector<Extent> extents,
                                                          uint64_t max_bytes,
                                                          const ReaderOptions& options) {
  DONAR_CHECK(options.threads > 0 && options.slots >= options.threads, "{} threads, {} slots",
              options.threads, options.slots);
  std::unique_ptr<ExtentReader> reader(new ExtentReader(files, std::move(extents), options.slots));
  reader->slot_bytes_ = ceil_page(max_bytes) + 2 * kPage;
  const uint64_t bytes = staging_bytes(max_bytes, options.slots);
  Result<Buffer> buffer = options.pinned
                              ? Buffer::allocate_pinned(ledger, MemoryUse::kStaging, bytes)
                              : Buffer::allocate(ledger, MemoryUse::kStaging, bytes);
  if (!buffer) return forward_error(buffer);
  reader->buffer_ = std::move(*buffer);
  for (int i = 0; i < options.threads; ++i)
    reader->threads_.emplace_back([raw = reader.get()] { raw->read_all(); });
  return reader;
}

ExtentReader::~ExtentReader() {
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ExtentReader::read_all() {
  auto* base = reinterpret_cast<std::byte*>(ceil_page(reinterpret_cast<uintptr_t>(buffer_.data())));
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] {
      return stopped_ || claimed_ == extents_.size() || claimed_ < released_ + slots_;
    });
    if (stopped_ || claimed_ == extents_.size()) return;
    const size_t index = claimed_++;
    lock.unlock();
    Result<const std::byte*> result = read(extents_[index], base + index % slots_ * slot_bytes_);
    lock.lock();
    if (!result && !failed_) failed_ = index;
    if (!result) stopped_ = true;  // those already claimed still end
    done_[index] = std::move(result);
    changed_.notify_all();
  }
}

Result<const std::byte*> ExtentReader::read(const Extent& extent, std::byte* staging) {
  return states_[static_cast<size_t>(extent.file)]->read(extent.begin, extent.end, staging);
}

Result<const std::byte*> ExtentReader::next() {
  std::unique_lock lock(mutex_);
  const size_t wanted = given_++;
  DONAR_CHECK(wanted < extents_.size() && wanted < released_ + slots_,
              "extent {} of {}, {} released of {} slots", wanted, extents_.size(), released_,
              slots_);
  // After a failure the extents before it are still on their way, those that nobody claimed never
  // come.
  changed_.wait(lock, [&] { return done_[wanted] || (failed_ && wanted >= claimed_); });
  return done_[wanted] ? *done_[wanted] : *done_[*failed_];
}

void ExtentReader::release(size_t count) {
  {
    std::lock_guard lock(mutex_);
    released_ = std::max(released_, count);
  }
  changed_.notify_all();
}

}  // namespace donar::model

// Streams ranges of files in order through a few staging slots, threads ahead of whoever consumes
// them. Ranges that are in the page cache are read from there; others go past it (O_DIRECT), so
// that loading a model does not push everything else out of memory.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "model/checkpoint.h"
#include "tensor/buffer.h"

namespace donar::model {

struct Extent {
  int file = 0;  // index into Checkpoint::files
  uint64_t begin = 0, end = 0;
};

struct ReaderOptions {
  int threads = 1;
  int slots = 3;        // extents in memory at a time, those that are being read included
  bool pinned = false;  // slots that a CUDA device can copy from
};

class ExtentReader {
 public:
  // Every extent has at most `max_bytes` bytes. Reading starts at once. `files` must outlive the
  // reader. `ledger`: of the host's memory.
  static Result<std::unique_ptr<ExtentReader>> start(MemoryLedger& ledger,
                                                     const std::vector<File>& files,
                                                     std::vector<Extent> extents,
                                                     uint64_t max_bytes,
                                                     const ReaderOptions& options);
  ~ExtentReader();

  // The bytes of the next extent; waits for the disk. They stay until they are released.
  Result<const std::byte*> next();
  // The first `count` extents are no longer looked at: their slots may be read into.
  void release(size_t count);

  // Bytes read past the page cache so far, and through it.
  uint64_t direct_bytes() const { return direct_bytes_.load(std::memory_order_relaxed); }
  uint64_t cached_bytes() const { return cached_bytes_.load(std::memory_order_relaxed); }

  // Staging that a reader for extents of `max_bytes` takes.
  static uint64_t staging_bytes(uint64_t max_bytes, int slots);

 private:
  class FileState;
  ExtentReader(const std::vector<File>& files, std::vector<Extent> extents, int slots);
  void read_all();
  Result<const std::byte*> read(const Extent& extent, std::byte* staging);

  const std::vector<Extent> extents_;
  const size_t slots_;
  Buffer buffer_;
  uint64_t slot_bytes_ = 0;
  std::vector<std::unique_ptr<FileState>> states_;  // one per file
  std::atomic<uint64_t> direct_bytes_{0}, cached_bytes_{0};

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::optional<Result<const std::byte*>>> done_;  // under mutex_: one per extent
  size_t claimed_ = 0;            // under mutex_: extents that a thread reads or has read
  size_t released_ = 0;           // under mutex_
  std::optional<size_t> failed_;  // under mutex_: the first extent that could not be read
  bool stopped_ = false;          // under mutex_: nothing more is to be read
  size_t given_ = 0;              // consumer only: extents that next() has returned
  std::vector<std::thread> threads_;
};

}  // namespace donar::model

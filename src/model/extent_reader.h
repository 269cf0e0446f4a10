// Streams ranges of files in order through a few staging buffers, a thread ahead of whoever
// consumes them. Ranges that are in the page cache are read from there; others go past it
// (O_DIRECT), so that loading a model does not push everything else out of memory.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "model/checkpoint.h"
#include "tensor/buffer.h"

namespace donar::model {

struct Extent {
  int file = 0;  // index into Checkpoint::files
  uint64_t begin = 0, end = 0;
};

class ExtentReader {
 public:
  static constexpr int kNumBuffers = 3;

  // Every extent has at most `max_bytes` bytes. Reading starts at once. `files` must outlive the
  // reader.
  static Result<std::unique_ptr<ExtentReader>> start(MemoryLedger& ledger,
                                                     const std::vector<File>& files,
                                                     std::vector<Extent> extents,
                                                     uint64_t max_bytes);
  ~ExtentReader();

  // The bytes of the next extent, valid until the next call. Waits for the disk.
  Result<const std::byte*> next();

  // Staging that a reader for extents of `max_bytes` takes.
  static uint64_t staging_bytes(uint64_t max_bytes);

 private:
  class FileState;
  ExtentReader(const std::vector<File>& files, std::vector<Extent> extents);
  void read_all();
  Result<const std::byte*> read(const Extent& extent, std::byte* staging);

  const std::vector<File>& files_;
  const std::vector<Extent> extents_;
  Buffer buffer_;
  uint64_t slot_bytes_ = 0;
  std::vector<std::unique_ptr<FileState>> states_;  // reader thread only

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Result<const std::byte*>> done_;  // under mutex_: results so far, in order
  size_t taken_ = 0;                            // under mutex_: extents given out
  bool stopped_ = false;                        // under mutex_
  std::thread thread_;
};

}  // namespace donar::model

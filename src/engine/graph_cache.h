// CUDA graphs of decode steps by padded batch: what a step would launch kernel by kernel goes to
// the device in one call. What varies between replays lies in device memory at fixed addresses.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/function_ref.h"
#include "tensor/cuda_exec.h"
#include "tensor/memory_ledger.h"

struct CUgraphExec_st;

namespace donar::engine {

// What a graph ends with.
enum class GraphKind : uint8_t {
  kGreedy,  // the best token of every row
  kDraws,   // a draw for rows with a temperature
  kLogits,  // logits: rules or logprobs are done behind it, eagerly
};
inline constexpr int kNumGraphKinds = 3;

// Engine thread only, after creation.
class GraphCache {
 public:
  // Graphs of up to max_rows rows; none with max_rows 0. Their memory is entered in the ledger
  // (of the device) as it is taken.
  GraphCache(MemoryLedger& ledger, CudaStreamHandle stream, int64_t max_rows);
  GraphCache(const GraphCache&) = delete;
  GraphCache& operator=(const GraphCache&) = delete;
  ~GraphCache();  // the stream has ended its work

  // The batch sizes of graphs: 1, 2, 4, 8, then every 8 to 64, every 16 to 256, every 64 beyond,
  // and max_rows.
  static std::vector<int64_t> sizes_up_to(int64_t max_rows);
  const std::vector<int64_t>& sizes() const { return sizes_; }
  // The smallest size that holds `rows` rows; 0: none does.
  int64_t padded(int64_t rows) const;

  bool contains(int64_t size, GraphKind kind) const { return at(size, kind).graph != nullptr; }
  void replay(int64_t size, GraphKind kind) const;
  // Captures what `work` puts into the stream (nothing runs), unless a graph had no memory before:
  // then steps stay eager. All of its kernels must have run once. Throws CudaError.
  void capture(int64_t size, GraphKind kind, FunctionRef<void()> work);
  bool is_full() const { return is_full_; }  // ledger or device had no memory for one

  // What one graph is expected to take, for sizing.
  static constexpr uint64_t kExpectedBytes = uint64_t{2} << 20;

 private:
  struct Entry {
    CUgraphExec_st* graph = nullptr;
    uint64_t bytes = 0;  // in the ledger
  };
  size_t index(int64_t size, GraphKind kind) const;
  void give_up(Entry& entry, const std::string& reason);  // no more graphs, this one included
  const Entry& at(int64_t size, GraphKind kind) const { return entries_[index(size, kind)]; }

  MemoryLedger& ledger_;
  const CudaStreamHandle stream_;
  const std::vector<int64_t> sizes_;
  std::vector<Entry> entries_;  // [sizes, kinds]
  bool is_full_ = false;
};

}  // namespace donar::engine

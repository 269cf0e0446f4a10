// A CUDA device for tests on any machine: its memory is the host's, its kernels are closures. What
// a stream is given runs when it is waited for and not before, so that a buffer that is written
// again too early gives wrong results.
#pragma once

#include <functional>

#include "tensor/cuda.h"

namespace donar::test {

struct SimulatedDevice {
  bool runs_at_once = false;  // the other extreme: everything runs when it is put into the stream
  bool is_broken = false;     // every wait fails
  int num_graphs = 0;         // alive
  int num_replays = 0;
  int num_events = 0;              // alive
  uint64_t graph_bytes = 1 << 20;  // that each graph takes
  uint64_t free_bytes = 1ull << 34;
};
SimulatedDevice& simulated_device();  // one per program

// What a kernel launch is here.
void put_into_stream(CudaStreamHandle stream, std::function<void()> work);

}  // namespace donar::test

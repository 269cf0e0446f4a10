// Weights from files, or made up, into the memory of a CUDA device: threads read into pinned slots,
// copies and the repack kernel run behind them on the device, all at the same time.
#pragma once

#include "model/load_plan.h"

namespace donar::model {

struct LoadLedgers {
  MemoryLedger& device;
  MemoryLedger& host;
};

// Fills `weights`, plan.packed_bytes of zeroed device memory. Waits until all is there. Throws
// CudaError.
Result<void> load_on_cuda(const Exec& ex, LoadLedgers ledgers, const ModelFiles& files,
                          const LoadPlan& plan, const LoadOptions& options, std::byte* weights);

}  // namespace donar::model

// Which GPUs this binary has code for: decided from numbers, before a device is opened. Exists in
// every build.
#pragma once

#include <string>
#include <string_view>

namespace donar {

// "87,90a": the architectures that this binary was compiled for; empty without CUDA.
std::string_view cuda_archs();

// Whether code for `archs` runs on a device of compute capability `capability` (90).
bool has_cuda_code(std::string_view archs, int capability);

// "9.0" of 90.
std::string capability_text(int capability);

// Why `device`, for which has_cuda_code is false, is of no use, and what to do; without a full
// stop.
std::string missing_cuda_code(std::string_view device, int capability, std::string_view archs);

}  // namespace donar

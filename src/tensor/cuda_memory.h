// The allocator calls behind Buffer. Nobody else calls them: a byte has an owner.
#pragma once

#include <cstdint>

#include "base/error.h"

namespace donar {

Result<void*> cuda_allocate(uint64_t bytes);         // zero-filled device memory
Result<void*> cuda_allocate_pinned(uint64_t bytes);  // zero-filled host memory
void cuda_free(void* data);
void cuda_free_pinned(void* data);

}  // namespace donar

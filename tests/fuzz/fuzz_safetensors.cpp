// The header of a safetensors file: whatever it says, every tensor that is accepted lies inside the
// file.
#include <cstdlib>

#include "memory_file.h"
#include "model/checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const donar::fuzz::MemoryFile file(data, size);
  donar::model::Checkpoint checkpoint;
  if (!donar::model::index_safetensors(file.path(), checkpoint)) return 0;
  for (const auto& [name, entry] : checkpoint.tensors)
    if (entry.offset < 8 || entry.offset > size || entry.bytes > size - entry.offset) std::abort();
  return 0;
}

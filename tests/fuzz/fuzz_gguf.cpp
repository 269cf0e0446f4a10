// A GGUF file up to the plan of what would be loaded: every tensor that is accepted lies inside the
// file, and no size overflows.
#include <cstdlib>

#include "memory_file.h"
#include "model/arch/family.h"
#include "model/model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const donar::fuzz::MemoryFile file(data, size);
  auto checkpoint = donar::model::open_gguf(file.path());
  if (!checkpoint) return 0;
  for (const auto& [name, entry] : checkpoint->tensors)
    if (entry.bytes > 0 && (entry.offset > size || entry.bytes > size - entry.offset)) std::abort();
  auto config = donar::model::arch::config_from_gguf(*checkpoint);
  if (!config) return 0;
  const donar::model::ModelFiles files{std::move(*checkpoint), std::move(*config), {}, {}};
  (void)donar::model::weight_bytes(files, {});
  return 0;
}

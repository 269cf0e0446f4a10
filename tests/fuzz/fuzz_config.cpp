// config.json up to the sizes that follow from it: a config that is accepted gives finite
// frequencies and sizes that fit.
#include <cmath>
#include <cstdlib>
#include <string_view>

#include "base/json.h"
#include "model/arch/family.h"
#include "model/decoder.h"
#include "model/model.h"
#include "model/rope.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto json = donar::parse_json({reinterpret_cast<const char*>(data), size});
  if (!json || !json->is_object()) return 0;
  auto config = donar::model::arch::config_from_json(json->as_object(), "config.json");
  if (!config) return 0;
  for (const float frequency : donar::model::inverse_frequencies(config->rope, config->head_dim))
    if (!std::isfinite(frequency)) std::abort();
  if (!std::isfinite(donar::model::attention_factor(config->rope))) std::abort();
  if (donar::model::Decoder::workspace_bytes(donar::DeviceType::kCpu, *config, 256, 8) == 0)
    std::abort();
  const donar::model::ModelFiles files{{}, std::move(*config), {}, {}};
  donar::model::LoadOptions options;
  options.load_format = donar::model::LoadFormat::kDummy;
  const auto bytes = donar::model::weight_bytes(files, options);
  if (!bytes || *bytes > (uint64_t{1} << 62)) std::abort();
  return 0;
}

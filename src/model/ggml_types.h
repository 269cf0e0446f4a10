// Element types of GGUF files by id: name and block size of every type that the format defines,
// whether or not there is a weight format for it here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace donar::model {

struct GgmlType {
  uint32_t id;
  std::string_view name;
  int block_values;
  int block_bytes;
};

// nullptr: the id was removed from the format or is unknown.
const GgmlType* find_ggml_type(uint32_t id);

// "F32, F16, BF16, ...": what quant::formats() has, for error messages.
std::string supported_format_names();

}  // namespace donar::model

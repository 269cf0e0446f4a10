// See cuda_arch.h.
#include "tensor/cuda_arch.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace donar {
namespace {

// What ./dev build --cuda takes.
constexpr std::array<std::pair<int, std::string_view>, 4> kKnownArchs = {
    {{87, "87"}, {90, "90a"}, {110, "110a"}, {121, "121a"}}};

constexpr std::array kTegra = {72, 87};

bool is_tegra(int capability) {
  return std::find(kTegra.begin(), kTegra.end(), capability) != kTegra.end();
}

}  // namespace

std::string_view cuda_archs() { return DONAR_CUDA_ARCHS; }

bool has_cuda_code(std::string_view archs, int capability) {
  while (!archs.empty()) {
    const std::string_view arch = archs.substr(0, archs.find(','));
    archs.remove_prefix(std::min(archs.size(), arch.size() + 1));
    int number = 0;
    const auto [end, error] = std::from_chars(arch.data(), arch.data() + arch.size(), number);
    if (error != std::errc()) continue;
    // Code with features of one architecture ("90a") and code of a Tegra runs there and nowhere
    // else; other code runs on later minors of its major (CUDA C++ Programming Guide, "Binary
    // Compatibility").
    const bool exact = end != arch.data() + arch.size() || is_tegra(number) || is_tegra(capability);
    if (exact ? number == capability : number / 10 == capability / 10 && number <= capability)
      return true;
  }
  return false;
}

std::string capability_text(int capability) {
  return fmt::format("{}.{}", capability / 10, capability % 10);
}

std::string missing_cuda_code(std::string_view device, int capability, std::string_view archs) {
  const auto known = std::find_if(kKnownArchs.begin(), kKnownArchs.end(),
                                  [&](const auto& arch) { return arch.first == capability; });
  return fmt::format("{} has compute capability {}, and this program has code for {} only{}",
                     device, capability_text(capability), archs,
                     known != kKnownArchs.end()
                         ? fmt::format(": `./dev build --cuda {}`", known->second)
                         : "; Donar runs on 8.7, 9.0, 11.0 and 12.1");
}

}  // namespace donar

// Looks at the machine: files under a root (a test gives its own), the driver's libraries, the CPU.
#pragma once

#include <filesystem>
#include <string_view>

#include "app/checkup/facts.h"

namespace donar::app::checkup {

Facts probe();

// The parts that are files only.
void probe_files(const std::filesystem::path& root, DriverFacts& driver);
HostFacts probe_host(const std::filesystem::path& root);

// Of nvpmodel: status has "pmode:0002", the configuration "< POWER_MODEL ID=2 NAME=MODE_30W >".
// Empty if they do not say.
std::string nvpmodel_mode(std::string_view status, std::string_view configuration);

// The driver through libcuda.so.1 and libnvidia-ml.so.1, which also a build without CUDA asks.
void probe_driver(uint64_t host_available_bytes, DriverFacts& driver);
std::vector<Library> probe_libraries();

}  // namespace donar::app::checkup

// Reads /proc when somebody asks.
#include "server/process_metrics.h"

#include <prometheus/metric_family.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>

namespace donar::server {
namespace {

void add(std::vector<prometheus::MetricFamily>& families, const char* name, const char* help,
         prometheus::MetricType type, double value) {
  prometheus::MetricFamily family;
  family.name = name;
  family.help = help;
  family.type = type;
  prometheus::ClientMetric metric;
  if (type == prometheus::MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  family.metric.push_back(metric);
  families.push_back(std::move(family));
}

// The numbers of /proc/self/stat from field 3 on; the name before them may hold blanks.
std::vector<double> stat_fields() {
  std::ifstream file("/proc/self/stat");
  std::string line;
  std::getline(file, line);
  const size_t end_of_name = line.rfind(')');
  if (end_of_name == std::string::npos) return {};
  std::istringstream rest(line.substr(end_of_name + 1));
  std::string state;
  rest >> state;
  std::vector<double> numbers{0.0};
  for (double number = 0; rest >> number;) numbers.push_back(number);
  return numbers;
}

double boot_time() {
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line);)
    if (line.rfind("btime ", 0) == 0) return std::stod(line.substr(6));
  return 0.0;
}

}  // namespace

std::vector<prometheus::MetricFamily> ProcessMetrics::Collect() const {
  using prometheus::MetricType;
  std::vector<prometheus::MetricFamily> families;
  // proc(5): utime 14, stime 15, starttime 22, vsize 23, rss 24; ours begins with field 3.
  const std::vector<double> fields = stat_fields();
  const auto field = [&](size_t number) {
    return number - 3 < fields.size() ? fields[number - 3] : 0.0;
  };
  const double ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  add(families, "process_cpu_seconds_total", "Total user and system CPU time spent in seconds.",
      MetricType::Counter, (field(14) + field(15)) / ticks);
  add(families, "process_start_time_seconds",
      "Start time of the process since unix epoch in seconds.", MetricType::Gauge,
      boot_time() + field(22) / ticks);
  add(families, "process_virtual_memory_bytes", "Virtual memory size in bytes.", MetricType::Gauge,
      field(23));
  add(families, "process_resident_memory_bytes", "Resident memory size in bytes.",
      MetricType::Gauge, field(24) * static_cast<double>(sysconf(_SC_PAGESIZE)));
  std::error_code error;
  double open_fds = 0;
  for (std::filesystem::directory_iterator it("/proc/self/fd", error), end; !error && it != end;
       it.increment(error))
    ++open_fds;
  add(families, "process_open_fds", "Number of open file descriptors.", MetricType::Gauge,
      open_fds);
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  add(families, "process_max_fds", "Maximum number of open file descriptors.", MetricType::Gauge,
      static_cast<double>(limit.rlim_cur));
  return families;
}

}  // namespace donar::server

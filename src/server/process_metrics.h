// process_*: memory, CPU time, file descriptors, as Prometheus clients of other languages export
// them.
#pragma once

#include <prometheus/collectable.h>

#include <vector>

namespace donar::server {

class ProcessMetrics final : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override;
};

}  // namespace donar::server

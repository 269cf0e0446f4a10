// What all routes share: the configuration, the model once it is there, metrics. Thread-safe.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "server/field_reader.h"
#include "server/metrics.h"
#include "server/server.h"

namespace donar::server {

class ServerState {
 public:
  explicit ServerState(ServerConfig config_in)
      : config(std::move(config_in)),
        metrics(config.model_names.empty() ? std::string("unknown") : config.model_names.front()) {}

  const ServerConfig config;
  Metrics metrics;
  WarnOnce warnings;
  std::atomic<bool> draining{false};
  std::atomic<int> num_active{0};  // generations, for /load
  const int64_t started_unix = std::time(nullptr);

  // Null while the model loads.
  std::shared_ptr<const ServedModel> model() const {
    std::lock_guard lock(mutex_);
    return model_;
  }
  void set_model(std::shared_ptr<const ServedModel> model) {
    std::lock_guard lock(mutex_);
    model_ = std::move(model);
  }
  LoadProgress progress() const {
    std::lock_guard lock(mutex_);
    return progress_;
  }
  void set_progress(LoadProgress progress) {
    std::lock_guard lock(mutex_);
    progress_ = std::move(progress);
  }

  // The model if requests may use it now; else why not, as 503.
  Result<std::shared_ptr<const ServedModel>> ready_model() const;
  // The name that replies carry, or 404 for a name that is not served. Absent: the first one.
  Result<std::string> served_name(const std::optional<std::string>& requested) const;

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const ServedModel> model_;  // shared: requests in flight keep it past a stop
  LoadProgress progress_;
};

}  // namespace donar::server

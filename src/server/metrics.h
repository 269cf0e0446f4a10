// Prometheus metrics: vLLM's names, labels and buckets, so that its dashboards and routers work
// unchanged, and finer ones of our own under donar:. Fed by the engine thread (StatsListener) and
// by the HTTP threads; thread-safe.
#pragma once

#include <memory>
#include <string>

#include "engine/stats.h"

namespace donar::server {

struct ServedModel;

class Metrics final : public engine::StatsListener {
 public:
  explicit Metrics(const std::string& model_name);
  ~Metrics() override;

  void on_step(const engine::StepStats& step) override;
  void on_first_token(double seconds) override;
  void on_inter_token(double seconds) override;
  void on_finish(const engine::RequestTiming& timing, engine::FinishReason reason,
                 const engine::Request& request) override;

  // Before the engine's first request: length buckets reach up to the model's limit.
  void set_model(const ServedModel& model, int64_t max_model_len);
  void set_startup_seconds(const std::string& phase, double seconds);
  void set_memory_bytes(const std::string& memory, const std::string& use, uint64_t bytes);
  void on_http(const std::string& handler, const std::string& method, int status, double seconds);

  // The text of /metrics; gauges as of now.
  std::string text(const engine::EngineGauges& gauges);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace donar::server

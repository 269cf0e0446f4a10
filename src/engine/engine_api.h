// The engine as servers and commands see it. Engine implements it; server tests put a fake in its
// place.
#pragma once

#include "engine/request.h"
#include "engine/stats.h"
#include "engine/stream.h"

namespace donar::engine {

class EngineApi {
 public:
  virtual ~EngineApi() = default;

  // Thread-safe. kInvalidArgument: can never fit; kResourceExhausted: the inbox is full;
  // kUnavailable: draining or failed.
  virtual Result<Stream> submit(Request request) = 0;
  virtual EngineGauges gauges() const = 0;
  virtual int64_t max_model_len() const = 0;  // tokens of prompt and output together
  virtual bool healthy() const = 0;           // false after a device error
  // Drops all cached blocks that nobody holds.
  virtual void reset_prefix_cache() = 0;
};

}  // namespace donar::engine

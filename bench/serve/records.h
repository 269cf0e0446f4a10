// What a run of the load generator leaves behind, and the numbers that are made of it. Plain data:
// knows no network and no clock.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"

namespace donar::bench::serve {

struct Record {
  TimePoint start, end;           // request sent; last byte of its reply
  std::vector<TimePoint> tokens;  // arrival of each event that held tokens
  int64_t input_tokens = 0;       // as the server counts them
  int64_t output_tokens = 0;
  std::string error;  // not empty: failed, and the rest counts for nothing
};

struct Spread {
  double mean = 0, p50 = 0, p90 = 0, p95 = 0, p99 = 0, max = 0;
};

struct Summary {
  int64_t requests = 0, errors = 0, input_tokens = 0, output_tokens = 0, events = 0;
  std::string first_error;
  double wall_s = 0;         // first send to last byte
  double output_tok_s = 0;   // output tokens / wall_s
  double prompt_tok_s = 0;   // prompt tokens / wall_s
  double request_per_s = 0;  // good requests / wall_s
  double decode_tok_s = 0;   // median over requests of (tokens - 1) / (last token - first token)
  double prefill_tok_s = 0;  // mean prompt tokens / median TTFT: of use for one stream alone
  std::optional<double>
      steady_tok_s;  // while the whole first wave was decoding; none: it never was
  std::optional<Spread> ttft_s, itl_s, e2e_s;
};

// Percentiles by nearest rank. Nothing for no values.
std::optional<Spread> spread(std::vector<double> values);

// Output tokens per second between the moment when the last of the first `wave` requests (in order
// of sending) had its first token and the moment when the first of them was done.
std::optional<double> steady_rate(const std::vector<const Record*>& good, size_t wave);

// wave: requests in flight of a closed loop; 0: arrivals of their own rate, so there is no wave.
Summary summarize(const std::vector<Record>& records, size_t wave);

}  // namespace donar::bench::serve

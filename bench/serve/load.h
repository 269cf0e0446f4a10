// Sends requests to a server and writes down when their tokens come: closed loop (so many streams
// in flight) or open loop (arrivals of a Poisson process). Threads of this process only; every
// prompt is other random token ids, so that a prefix cache finds nothing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "serve/records.h"

namespace donar::bench::serve {

struct Endpoint {
  std::string host = "127.0.0.1";
  std::string port = "8000";
};

// http://host[:port][/]; https is refused.
Result<Endpoint> parse_url(const std::string& url);

struct LoadOptions {
  Endpoint endpoint;
  std::string model;        // served name
  std::string extra_json;   // members merged into every request, without braces; may be empty
  std::string api_key;      // empty: none
  int input_len = 128;      // tokens of a prompt
  int output_len = 256;     // tokens to generate
  int concurrency = 1;      // streams in flight at most
  double request_rate = 0;  // arrivals per second; 0: closed loop
  int min_id = 1000, max_id = 100000;  // prompt ids are in [min_id, max_id)
  int threads = 1;
  double timeout_s = 300;  // of one request
  uint64_t seed = 0;       // of prompts and arrivals
};

// The body of request `index`: the same for the same seed and index, in any run.
std::string request_body(const LoadOptions& options, uint64_t index);

// Seconds from the begin of the run at which `count` requests are sent: all 0 in a closed loop.
std::vector<double> arrival_times(const LoadOptions& options, uint64_t first, int count);

// Serves requests first .. first + count - 1, one record each, in no particular order. Fails only
// if the server cannot be reached at all.
Result<std::vector<Record>> run_load(const LoadOptions& options, uint64_t first, int count);

// A plain GET of a small JSON document.
Result<std::string> http_get(const Endpoint& endpoint, const std::string& path,
                             const std::string& api_key);

}  // namespace donar::bench::serve

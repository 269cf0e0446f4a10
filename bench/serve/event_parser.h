// Server-sent events out of pieces of a reply: what of each counts for a benchmark, read with as
// little work as possible, since the client shares the machine with the server.
#pragma once

#include <simdjson.h>

#include <string>
#include <string_view>

#include "base/clock.h"
#include "serve/records.h"

namespace donar::bench::serve {

class EventParser {
 public:
  // Adds the events that `piece`, arrived at `now`, completes. Events with choices count as tokens;
  // usage fills the counts; an error object becomes the record's error.
  void take(std::string_view piece, TimePoint now, Record& record);
  void reset() { pending_.clear(); }

 private:
  void event(std::string_view text, TimePoint now, Record& record);

  std::string pending_;  // begin of an event whose end has not come
  std::string padded_;
  simdjson::dom::parser json_;
};

}  // namespace donar::bench::serve

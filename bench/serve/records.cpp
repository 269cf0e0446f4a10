#include "serve/records.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace donar::bench::serve {
namespace {

double percentile(const std::vector<double>& sorted, double percent) {
  const double rank = std::ceil(percent / 100.0 * static_cast<double>(sorted.size()));
  return sorted[static_cast<size_t>(std::max(rank, 1.0)) - 1];
}

double median(std::vector<double> values) {
  if (values.empty()) return 0.0;
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

}  // namespace

std::optional<Spread> spread(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return Spread{sum / static_cast<double>(values.size()),
                percentile(values, 50),
                percentile(values, 90),
                percentile(values, 95),
                percentile(values, 99),
                values.back()};
}

std::optional<double> steady_rate(const std::vector<const Record*>& good, size_t wave) {
  std::vector<const Record*> first(good);
  std::sort(first.begin(), first.end(),
            [](const Record* a, const Record* b) { return a->start < b->start; });
  if (first.size() > wave) first.resize(wave);
  if (first.empty()) return std::nullopt;
  TimePoint begin = first.front()->tokens.front(), end = first.front()->tokens.back();
  for (const Record* record : first) {
    begin = std::max(begin, record->tokens.front());
    end = std::min(end, record->tokens.back());
  }
  if (end <= begin) return std::nullopt;
  double tokens = 0.0;
  for (const Record* record : first) {
    const auto events = std::count_if(record->tokens.begin(), record->tokens.end(),
                                      [&](TimePoint t) { return begin < t && t <= end; });
    // A server may send several tokens in one event.
    tokens += static_cast<double>(events) * static_cast<double>(record->output_tokens) /
              static_cast<double>(record->tokens.size());
  }
  return tokens / seconds_between(begin, end);
}

Summary summarize(const std::vector<Record>& records, size_t wave) {
  Summary out;
  out.requests = static_cast<int64_t>(records.size());
  std::vector<const Record*> good;
  for (const Record& record : records) {
    if (record.error.empty()) {
      good.push_back(&record);
    } else if (++out.errors == 1) {
      out.first_error = record.error;
    }
  }
  if (good.empty()) return out;

  TimePoint begin = good.front()->start, end = good.front()->end;
  std::vector<double> ttft, gaps, e2e, rates;
  for (const Record* record : good) {
    begin = std::min(begin, record->start);
    end = std::max(end, record->end);
    out.input_tokens += record->input_tokens;
    out.output_tokens += record->output_tokens;
    out.events += static_cast<int64_t>(record->tokens.size());
    ttft.push_back(seconds_between(record->start, record->tokens.front()));
    e2e.push_back(seconds_between(record->start, record->end));
    for (size_t i = 1; i < record->tokens.size(); ++i)
      gaps.push_back(seconds_between(record->tokens[i - 1], record->tokens[i]));
    const double decoding = seconds_between(record->tokens.front(), record->tokens.back());
    if (decoding > 0) rates.push_back(static_cast<double>(record->output_tokens - 1) / decoding);
  }
  out.wall_s = seconds_between(begin, end);
  out.output_tok_s = static_cast<double>(out.output_tokens) / out.wall_s;
  out.prompt_tok_s = static_cast<double>(out.input_tokens) / out.wall_s;
  out.request_per_s = static_cast<double>(good.size()) / out.wall_s;
  out.decode_tok_s = median(std::move(rates));
  out.prefill_tok_s =
      static_cast<double>(out.input_tokens) / static_cast<double>(good.size()) / median(ttft);
  if (wave > 0) out.steady_tok_s = steady_rate(good, wave);
  out.ttft_s = spread(std::move(ttft));
  out.itl_s = spread(std::move(gaps));
  out.e2e_s = spread(std::move(e2e));
  return out;
}

}  // namespace donar::bench::serve

// Frequencies are computed in float where the reference does (huggingface/transformers,
// modeling_rope_utils.py): an angle of 100,000 radians differs visibly after one more or one less
// rounding.
#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace donar::model {
namespace {

constexpr double kTwoPi = 2.0 * std::numbers::pi;

// Llama 3: long wavelengths are divided by `factor`, short ones are kept, and between the two
// limits they are mixed.
float llama3_frequency(const RopeConfig& rope, float frequency) {
  const double original = static_cast<double>(rope.original_max_position);
  const double wavelength = kTwoPi / frequency;
  if (wavelength < original / rope.high_freq_factor) return frequency;
  if (wavelength > original / rope.low_freq_factor)
    return static_cast<float>(frequency / rope.factor);
  const double kept = (original / wavelength - rope.low_freq_factor) /
                      (rope.high_freq_factor - rope.low_freq_factor);
  return static_cast<float>((1.0 - kept) * frequency / rope.factor + kept * frequency);
}

// YaRN: the share of each pair's frequency that is divided by `factor` rises from 0 to 1 over a
// range of pairs.
std::vector<float> yarn_frequencies(const RopeConfig& rope, int head_dim,
                                    std::vector<float> frequencies) {
  const auto correction = [&](double rotations) {
    return head_dim *
           std::log(static_cast<double>(rope.original_max_position) / (rotations * kTwoPi)) /
           (2.0 * std::log(rope.theta));
  };
  double low = correction(rope.beta_fast);
  double high = correction(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(head_dim - 1));
  if (low == high) high += 0.001;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double share = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] =
        static_cast<float>(frequencies[i] / rope.factor * share + frequencies[i] * (1.0 - share));
  }
  return frequencies;
}

double yarn_magnitude(double factor, double mscale) {
  return factor > 1.0 ? 0.1 * mscale * std::log(factor) + 1.0 : 1.0;
}

}  // namespace

std::vector<float> inverse_frequencies(const RopeConfig& rope, int head_dim) {
  std::vector<float> frequencies(static_cast<size_t>(head_dim) / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
    frequencies[i] = 1.0f / std::pow(static_cast<float>(rope.theta), exponent);
  }
  if (!rope.frequency_divisors.empty()) {
    for (size_t i = 0; i < frequencies.size(); ++i) frequencies[i] /= rope.frequency_divisors[i];
    if (rope.type == RopeType::kLlama3) return frequencies;
  }
  switch (rope.type) {
    case RopeType::kDefault:
      return frequencies;
    case RopeType::kLinear:
      for (float& frequency : frequencies) frequency /= static_cast<float>(rope.factor);
      return frequencies;
    case RopeType::kLlama3:
      for (float& frequency : frequencies) frequency = llama3_frequency(rope, frequency);
      return frequencies;
    case RopeType::kYarn:
      return yarn_frequencies(rope, head_dim, std::move(frequencies));
  }
  return frequencies;
}

float attention_factor(const RopeConfig& rope) {
  if (rope.type != RopeType::kYarn) return 1.0f;
  if (rope.attention_factor != 0.0) return static_cast<float>(rope.attention_factor);
  if (rope.mscale != 0.0 && rope.mscale_all_dim != 0.0)
    return static_cast<float>(yarn_magnitude(rope.factor, rope.mscale) /
                              yarn_magnitude(rope.factor, rope.mscale_all_dim));
  return static_cast<float>(yarn_magnitude(rope.factor, 1.0));
}

void fill_cos_sin(const std::vector<float>& frequencies, float factor, int64_t position, float* cos,
                  float* sin) {
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double angle =
        static_cast<float>(position) * frequencies[i];  // rounded to float, as the reference does
    cos[i] = static_cast<float>(std::cos(angle)) * factor;
    sin[i] = static_cast<float>(std::sin(angle)) * factor;
  }
}

}  // namespace donar::model

// Known answers of Random123's kat_vectors for philox4x32, 10 rounds.
#include "engine/philox.h"

#include <gtest/gtest.h>

#include <set>

namespace donar::engine {
namespace {

using Words = std::array<uint32_t, 4>;

TEST(Philox, known_answers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, bits_depend_on_all_of_seed_and_position) {
  std::set<uint64_t> seen;
  for (uint64_t high : {uint64_t{0}, uint64_t{1} << 32}) {
    for (uint64_t low = 0; low < 4; ++low) {
      seen.insert(philox_bits(high | low, 9));
      seen.insert(philox_bits(9, high | low));
    }
  }
  EXPECT_EQ(seen.size(), 16u);
  EXPECT_EQ(philox_bits(0, 0), 0xe169c58d6627e8d5u);
}

}  // namespace
}  // namespace donar::engine

// The arithmetic ceilings of AMX: products of tiles that are already loaded. Elsewhere they are not
// called.
#include "bench/ops/ceilings.h"

#if defined(__AMX_INT8__)
#include "ops/cpu/amx_tiles.h"

namespace donar::bench {
namespace {

namespace amx = ops::cpu::amx;

constexpr amx::Config full_tiles() {
  amx::Config config;
  config.set(0, amx::kTiles - 1, amx::kRows, amx::kRowBytes);
  return config;
}

// The zeros that a shape begins with cost what numbers cost.
template <class Products>
double tile_loop(long iterations, int depth, Products products) {
  const amx::Shapes shapes(full_tiles());
  for (long i = 0; i < iterations; ++i) products();
  return 2.0 * 4 * amx::kRows * amx::kRows * depth;
}

}  // namespace

double amx_int8_loop(long iterations) {
  return tile_loop(iterations, 64, [] {
    amx::dot_int8<0, 4, 6>();
    amx::dot_int8<1, 4, 7>();
    amx::dot_int8<2, 5, 6>();
    amx::dot_int8<3, 5, 7>();
  });
}

double amx_bf16_loop(long iterations) {
  return tile_loop(iterations, 32, [] {
    amx::dot_bf16<0, 4, 6>();
    amx::dot_bf16<1, 4, 7>();
    amx::dot_bf16<2, 5, 6>();
    amx::dot_bf16<3, 5, 7>();
  });
}

}  // namespace donar::bench

#else

namespace donar::bench {
double amx_int8_loop(long) { return 0; }
double amx_bf16_loop(long) { return 0; }
}  // namespace donar::bench

#endif

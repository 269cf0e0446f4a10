// Included ahead of every file of llama.cpp: in g++ before 12.4 and 13.3, _tile_loadconfig tells
// the compiler of the first 8 bytes that it reads alone, the other 56 are never written, and the
// first product on AMX ends in a fault (GCC bug 114098).
#pragma once
#if defined(__cplusplus) && defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>

static inline void load_tile_config(const void* config) {
  asm volatile("ldtilecfg\t%0" : : "m"(*static_cast<const char(*)[64]>(config)));
}
#define _tile_loadconfig load_tile_config
#endif

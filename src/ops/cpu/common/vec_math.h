// exp over a Vec: relative error below 2e-7, 0 below -87.3, the largest finite power above 88.
#pragma once

namespace donar::ops::cpu {

// exp(x) = 2^n * exp(r), n = round(x / ln 2), |r| <= ln 2 / 2: a Taylor polynomial of degree 7
// there (error 2^-28).
template <class V>
typename V::F exp(typename V::F x) {
  using F = typename V::F;
  const F lowest = V::set1(-87.0f);
  const F clamped = V::min(V::max(x, lowest), V::set1(88.0f));
  const F n = V::round(V::mul(clamped, V::set1(1.44269504088896341f)));
  // ln 2 in two parts, so that r keeps its low bits.
  F r = V::fma(n, V::set1(-0.693145751953125f), clamped);
  r = V::fma(n, V::set1(-1.428606765330187e-06f), r);
  F p = V::set1(1.0f / 5040.0f);
  p = V::fma(p, r, V::set1(1.0f / 720.0f));
  p = V::fma(p, r, V::set1(1.0f / 120.0f));
  p = V::fma(p, r, V::set1(1.0f / 24.0f));
  p = V::fma(p, r, V::set1(1.0f / 6.0f));
  p = V::fma(p, r, V::set1(0.5f));
  p = V::fma(p, r, V::set1(1.0f));
  p = V::fma(p, r, V::set1(1.0f));
  return V::zero_below(x, lowest, V::scale2(p, n));
}

}  // namespace donar::ops::cpu

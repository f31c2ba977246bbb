/* Random networks without a weight: the exact sampler, and the generator that feeds it.

   Only sums over units are ever read, so a layer of n units costs K ~ Bin(n, 1/2) and two chi-squares,

       mean y^2 = v (P + N)/n,   mean x^2 = v (P + a^2 N)/n,   P ~ chi2_K,   N ~ chi2_{n-K},

   at any width, and has the law that drawing and multiplying the matrices would have. */

globalThis.Fanin = globalThis.Fanin || {};

Fanin.sampler = (() => {
  "use strict";

  /** xoshiro128** (Blackman & Vigna 2018), its four words filled by splitmix32 from one 32-bit seed. */
  function generator(seed) {
    let word = seed >>> 0;
    const state = Uint32Array.from({ length: 4 }, () => {
      word = (word + 0x9e3779b9) >>> 0;
      let z = word;
      z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
      return z ^ (z >>> 16);
    });
    return fromState(state);
  }

  /** The generator with the four words of `state`. */
  function fromState(state) {
    const s = Uint32Array.from(state);
    let spare = null; // the second normal of a pair

    function bits() {
      const scrambled = Math.imul(rotate(Math.imul(s[1], 5), 7), 9) >>> 0;
      const shifted = s[1] << 9;
      s[2] ^= s[0];
      s[3] ^= s[1];
      s[1] ^= s[2];
      s[0] ^= s[3];
      s[2] ^= shifted;
      s[3] = rotate(s[3], 11);
      return scrambled;
    }

    /** Uniform on (0, 1), 53 bits, never 0. */
    function uniform() {
      const high = bits() >>> 5, low = bits() >>> 6;
      return (high * 67108864 + low + 0.5) / 9007199254740992;
    }

    /** N(0, 1), two at a time (Marsaglia's polar method). */
    function normal() {
      if (spare !== null) {
        const value = spare;
        spare = null;
        return value;
      }
      for (;;) {
        const u = 2 * uniform() - 1, v = 2 * uniform() - 1, r = u * u + v * v;
        if (r > 0 && r < 1) {
          const factor = Math.sqrt((-2 * Math.log(r)) / r);
          spare = v * factor;
          return u * factor;
        }
      }
    }

    /** Gamma(shape), shape >= 1 (Marsaglia & Tsang 2000). */
    function gamma(shape) {
      const d = shape - 1 / 3, c = 1 / Math.sqrt(9 * d);
      for (;;) {
        const x = normal(), v = (1 + c * x) ** 3;
        if (v > 0 && Math.log(uniform()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v;
      }
    }

    /** chi2 with `degrees` of freedom; 0 of none. */
    function chiSquare(degrees) {
      if (degrees === 0) return 0;
      if (degrees === 1) return normal() ** 2;
      return 2 * gamma(degrees / 2);
    }

    /** Bin(n, 1/2): the ones among n random bits. */
    function binomialHalf(n) {
      let ones = 0;
      for (let left = n; left > 0; left -= 32) {
        let word = bits();
        if (left < 32) word >>>= 32 - left;
        ones += onesIn(word);
      }
      return ones;
    }

    return { bits, uniform, normal, gamma, chiSquare, binomialHalf };
  }

  function rotate(word, by) {
    return (word << by) | (word >>> (32 - by));
  }

  /** The ones among a word's 32 bits: in pairs, in fours, in bytes, and the bytes summed. */
  function onesIn(word) {
    word -= (word >>> 1) & 0x55555555;
    word = (word & 0x33333333) + ((word >>> 2) & 0x33333333);
    word = (word + (word >>> 4)) & 0x0f0f0f0f;
    return Math.imul(word, 0x01010101) >>> 24;
  }

  /** log10 of q_l of one network under `setting`, l = 1 ... L; -Infinity where nothing passes. */
  function network(setting, random) {
    return setting.direction === "forward" ? signal(setting, random) : gradient(setting, random);
  }

  function signal(setting, random) {
    const n = Fanin.theory.widths(setting), square = setting.slope ** 2;
    let power = 0; // ln of mean x^2
    return Fanin.theory.logScales(setting).map((scale, l) => {
      const units = n[l + 1], active = random.binomialHalf(units);
      const positive = random.chiSquare(active), negative = random.chiSquare(units - active);
      const v = power + scale;
      power = v + Math.log((positive + square * negative) / units);
      return (v + Math.log((positive + negative) / units)) / Math.LN10;
    });
  }

  /** From the top: a cotangent of second moment 1 meets gates that are fair coins, whatever the weights. */
  function gradient(setting, random) {
    const n = Fanin.theory.widths(setting), square = setting.slope ** 2;
    const scales = Fanin.theory.logScales(setting), result = new Array(setting.depth).fill(0);
    let closed = false, sum = 0;
    for (let l = setting.depth - 1; l >= 1; l--) { // the gates of layer l
      const units = n[l], active = random.binomialHalf(units);
      const positive = random.chiSquare(active), negative = random.chiSquare(units - active);
      closed = closed || (active === 0 && square === 0);
      sum += scales[l] + Math.log((positive + square * negative) / units);
      result[l - 1] = sum / Math.LN10;
    }
    // a dead layer silences all layers above it, whose gates then pass nothing either
    if (closed) result.fill(-Infinity, 0, setting.depth - 1);
    return result;
  }

  return { generator, fromState, network };
})();

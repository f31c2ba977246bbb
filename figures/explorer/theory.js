/* What should happen: the exact law of one random network, in the reader's browser.

   The same formulas as the Python modules theory/law/finite_width.py, curve_theory.py, law.py and
   rectifiers.py, and tested against them to 1e-9.

   One input of second moment 1, Gaussian weights of mean 0, no biases, a rectifier of slope a.
   Given the layer before, the n units of a layer are independent N(0, v) with v = s * mean(x^2) and
   s = fan_in * Var[w], so that

       before the activation   mean y^2 = v T/n,   T = chi2_n
       after it                mean x^2 = v S/n,   S = chi2_K + a^2 chi2_{n-K},   K ~ Bin(n, 1/2)

   and the factors of different layers are independent (Hanin & Nica 2020).  All numbers that may
   leave the range of a double are kept as logarithms. */

globalThis.Fanin = globalThis.Fanin || {};

Fanin.theory = (() => {
  "use strict";

  const LN10 = Math.LN10, NORMAL_975 = 1.959963984540054; // where the search for the band's ends begins

  // ------------------------------------------------------------------ special functions

  /** psi(x) for x > 0: recurrence up to 12, then the asymptotic series. */
  function digamma(x) {
    let sum = 0;
    for (; x < 12; x++) sum -= 1 / x;
    const r = 1 / (x * x);
    const series = r * (1 / 12 - r * (1 / 120 - r * (1 / 252 - r * (1 / 240 - r * (1 / 132 -
      r * (691 / 32760 - r / 12))))));
    return sum + Math.log(x) - 0.5 / x - series;
  }

  /** psi'(x) for x > 0. */
  function trigamma(x) {
    let sum = 0;
    for (; x < 12; x++) sum += 1 / (x * x);
    const r = 1 / (x * x);
    const series = 1 + r * (1 / 6 - r * (1 / 30 - r * (1 / 42 - r * (1 / 30 - r * (5 / 66 -
      r * (691 / 2730 - r * 7 / 6))))));
    return sum + (series + 0.5 / x) / x;
  }

  /** Stirling's correction to ln Gamma(z), z = x + iy with |z| >= 12: [real, imaginary]. */
  function stirling(x, y) {
    const size = x * x + y * y;
    const re = x / size, im = -y / size; // 1/z
    const re2 = re * re - im * im, im2 = 2 * re * im; // 1/z^2
    let sumRe = 0, sumIm = 0;
    for (const term of [1 / 156, -691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12]) {
      [sumRe, sumIm] = [sumRe * re2 - sumIm * im2 + term, sumRe * im2 + sumIm * re2];
    }
    return [sumRe * re - sumIm * im, sumRe * im + sumIm * re];
  }

  /** ln Gamma(x) for x > 0. */
  function logGamma(x) {
    let shift = 0;
    for (; x < 12; x++) shift -= Math.log(x);
    return shift + (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI) + stirling(x, 0)[0];
  }

  /** ln Gamma(h + i w) - ln Gamma(h) for h > 0, without the cancellation: [real, imaginary]. */
  function logGammaRatio(h, w) {
    let re = 0, im = 0;
    for (; h < 12; h++) { // Gamma(z) = Gamma(z + 1)/z
      const t = w / h;
      re -= 0.5 * Math.log1p(t * t);
      im -= Math.atan(t);
    }
    const t = w / h, angle = Math.atan(t), stretch = 0.5 * Math.log1p(t * t); // Ln(1 + i t)
    const top = stirling(h, w), bottom = stirling(h, 0);
    return [
      re + (h - 0.5) * stretch - w * angle + top[0] - bottom[0],
      im + (h - 0.5) * angle + w * (Math.log(h) + stretch - 1) + top[1],
    ];
  }

  /** The K of Bin(n, 1/2) that carry all but 1e-18 of the mass, and their weights. */
  function binomialHalf(n) {
    const reach = Math.ceil(4.6 * Math.sqrt(n));
    const middle = Math.floor(n / 2);
    const first = n <= 64 ? 0 : Math.max(middle - reach, 0);
    const last = n <= 64 ? n : Math.min(middle + reach, n);
    const active = [], weight = [];
    for (let k = first, w = 1e-20; k <= last; k++) {
      active.push(k);
      weight.push(w);
      w *= (n - k) / (k + 1); // from one binomial coefficient to the next
    }
    const total = weight.reduce((a, b) => a + b);
    return { active, weight: weight.map((w) => w / total) };
  }

  // ------------------------------------------------------------------ one layer's factor

  /* A factor: mean and variance of its log, and characteristic(omega, count), which returns
     E[exp(i w (X - E X))] at the first `count` of `omega` as {re, im}. */

  function complexArray(count) {
    return { re: new Float64Array(count), im: new Float64Array(count) };
  }

  /** ln(T/n), T = chi2_n: mean psi(n/2) + ln(2/n), variance psi'(n/2). */
  function logLength(n) {
    const mean = digamma(n / 2) + Math.log(2 / n);
    function characteristic(omega, count) {
      const result = complexArray(count);
      for (let j = 0; j < count; j++) {
        const [re, im] = logGammaRatio(n / 2, omega[j]);
        const size = Math.exp(re), angle = im + omega[j] * (Math.log(2 / n) - mean);
        result.re[j] = size * Math.cos(angle);
        result.im[j] = size * Math.sin(angle);
      }
      return result;
    }
    return { mean, variance: trigamma(n / 2), characteristic };
  }

  /** ln(S/n) of a ReLU given that the layer is not dead (K > 0): a mixture of chi2_K. */
  function logRectifiedSum(n) {
    const { active, weight } = binomialHalf(n);
    if (active[0] === 0) {
      active.shift();
      weight.shift();
    }
    const total = weight.reduce((a, b) => a + b);
    let mean = 0, variance = 0;
    active.forEach((k, i) => {
      weight[i] /= total;
      mean += weight[i] * (digamma(k / 2) + Math.log(2 / n));
    });
    active.forEach((k, i) => {
      const away = digamma(k / 2) + Math.log(2 / n) - mean;
      variance += weight[i] * (trigamma(k / 2) + away * away);
    });
    function characteristic(omega, count) {
      const result = complexArray(count);
      for (let j = 0; j < count; j++) {
        const w = omega[j];
        let sumRe = 0, sumIm = 0;
        for (const start of [0, 1]) { // K two by two: Gamma(K/2 + 1 + iw) = (K/2 + iw) Gamma(K/2 + iw)
          if (start >= active.length) continue;
          const [logRe, logIm] = logGammaRatio(active[start] / 2, w);
          let re = Math.exp(logRe) * Math.cos(logIm), im = Math.exp(logRe) * Math.sin(logIm);
          for (let i = start; i < active.length; i += 2) {
            sumRe += weight[i] * re;
            sumIm += weight[i] * im;
            const t = (2 * w) / active[i];
            [re, im] = [re - t * im, im + t * re];
          }
        }
        const angle = w * (Math.log(2 / n) - mean);
        const cos = Math.cos(angle), sin = Math.sin(angle);
        result.re[j] = sumRe * cos - sumIm * sin;
        result.im[j] = sumRe * sin + sumIm * cos;
      }
      return result;
    }
    return { mean, variance, characteristic };
  }

  /** ln R, R = B + a^2 (1 - B), B | K ~ Beta(K/2, (n - K)/2), a not 0: the direction's part of S = T R.

      The density of logit(B) is analytic with exponential tails, so the trapezoid rule on an even
      grid converges geometrically.  K = 0 and K = n are atoms at a^2 and 1. */
  function logDirection(n, slope) {
    const { active, weight } = binomialHalf(n);
    const reach = n <= 128 ? 90 : Math.min(90, 60 / Math.sqrt(n));
    const step = Math.min(0.25, 0.6 / Math.sqrt(n));
    const square = slope * slope;
    const masses = [], values = [], mixture = [];
    active.forEach((k, i) => {
      if (k === 0 || k === n) {
        masses.push(weight[i]);
        values.push(k === 0 ? Math.log(square) : 0);
      } else {
        const logBeta = logGamma(k / 2) + logGamma((n - k) / 2) - logGamma(n / 2);
        mixture.push([k / 2, (n - k) / 2, Math.log(weight[i] * step) - logBeta]);
      }
    });
    const steps = Math.ceil((2 * reach + step) / step);
    for (let j = 0; j < steps; j++) {
      const logit = -reach + j * step;
      const logB = -Math.log1p(Math.exp(-logit)), logRest = -Math.log1p(Math.exp(logit));
      let mass = 0;
      for (const [alpha, beta, log] of mixture) {
        const exponent = alpha * logB + beta * logRest + log;
        if (exponent > -60) mass += Math.exp(exponent);
      }
      if (mass > 0) {
        masses.push(mass);
        values.push(Math.log(Math.exp(logB) + square * Math.exp(logRest)));
      }
    }
    const total = masses.reduce((a, b) => a + b);
    const mean = masses.reduce((sum, mass, i) => sum + mass * values[i], 0) / total;
    const variance = masses.reduce((sum, mass, i) => sum + mass * (values[i] - mean) ** 2, 0) / total;
    const kept = masses.map((mass, i) => [mass / total, values[i] - mean]).filter(([mass]) => mass > 1e-18);
    function characteristic(omega, count) {
      const result = complexArray(count);
      for (let j = 0; j < count; j++) {
        let re = 0, im = 0;
        for (const [mass, value] of kept) {
          re += mass * Math.cos(omega[j] * value);
          im += mass * Math.sin(omega[j] * value);
        }
        result.re[j] = re;
        result.im[j] = im;
      }
      return result;
    }
    return { mean, variance, characteristic };
  }

  /** The product of two independent factors: logs and variances add, characteristic functions multiply. */
  function logProduct(one, other) {
    return {
      mean: one.mean + other.mean,
      variance: one.variance + other.variance,
      characteristic(omega, count) {
        const first = one.characteristic(omega, count);
        const needed = significant(first, count); // |the other| <= 1: beyond, the product is nothing
        return multiply(first, other.characteristic(omega, needed), needed);
      },
    };
  }

  function multiply(one, other, count) {
    const result = complexArray(count);
    for (let j = 0; j < count; j++) {
      result.re[j] = one.re[j] * other.re[j] - one.im[j] * other.im[j];
      result.im[j] = one.re[j] * other.im[j] + one.im[j] * other.re[j];
    }
    return result;
  }

  /** How many leading values hold everything above 1e-17. */
  function significant(values, count) {
    const length = Math.min(count, values.re.length);
    for (let j = length; j > 1; j--) {
      if (Math.hypot(values.re[j - 1], values.im[j - 1]) > 1e-17) return j;
    }
    return 1;
  }

  const factors = new Map();

  /** The factor of a layer of n units: `gated` after its activation (S), else before it (T). */
  function logFactor(n, slope, gated) {
    const key = `${n} ${gated ? slope : "length"}`;
    if (!factors.has(key)) {
      if (factors.size > 4000) factors.clear();
      let factor = logLength(n);
      if (gated && slope === 0) factor = logRectifiedSum(n);
      else if (gated && Math.abs(slope) !== 1) factor = logProduct(factor, logDirection(n, slope));
      factors.set(key, factor);
    }
    return factors.get(key);
  }

  // ------------------------------------------------------------------ the law of ln q along a stack

  /** c(a) = 6 (1 + a^4)/(1 + a^2)^2 - 1: E[(mean x^2)^2]/E[mean x^2]^2 = 1 + c(a)/n per layer. */
  function spreadCoefficient(slope) {
    return (6 * (1 + slope ** 4)) / (1 + slope ** 2) ** 2 - 1;
  }

  /** Mean, variance, 2.5 %, 50 % and 97.5 % quantile of ln q_l, and P(dead), without the scale prod s_k.

      units         n_l of every layer, in the order in which the signal passes
      gatedReading  read q_l after layer l's gate (gradients) instead of before it (pre-activations)

      The law is that of a network that is not dead.  Its characteristic function is the product of the
      layers'; the quantiles come from Gil-Pelaez' inversion (1951) on one midpoint grid of w, fine
      enough that no law wraps around within 24 standard deviations, long enough for the narrowest. */
  function signalLaw(units, slope, gatedReading) {
    const depth = units.length;
    const law = { logMean: [], logVariance: [], squaredRatio: [], dead: [], low: [], median: [], high: [] };
    let mean = 0, variance = 0, ratio = 1, alive = 1;
    for (const n of units) {
      const gate = logFactor(n, slope, true), read = gatedReading ? gate : logFactor(n, slope, false);
      const gatedRatio = ratio * (1 + spreadCoefficient(slope) / n);
      const gatedAlive = alive * (1 - (slope === 0 ? 2 ** -n : 0));
      law.logMean.push(mean + read.mean);
      law.logVariance.push(variance + read.variance);
      law.squaredRatio.push(gatedReading ? gatedRatio : ratio * (1 + 2 / n));
      law.dead.push(1 - (gatedReading ? gatedAlive : alive));
      mean += gate.mean;
      variance += gate.variance;
      ratio = gatedRatio;
      alive = gatedAlive;
    }
    const std = law.logVariance.map(Math.sqrt);
    const step = Math.PI / (24 * Math.max(...std));
    const length = Math.ceil((12 / Math.min(...std) + 25) / step);
    const omega = Float64Array.from({ length }, (_, j) => (j + 0.5) * step);
    const known = new Map();
    const characteristic = (n, gated, count) => {
      const key = `${n} ${gated}`;
      if (!known.has(key)) known.set(key, logFactor(n, slope, gated).characteristic(omega, count));
      return known.get(key); // widths come back with fewer points needed, never with more
    };
    let passed = complexArray(length), count = length;
    passed.re.fill(1);
    for (let layer = 0; layer < depth; layer++) {
      const before = passed, seen = count;
      if (gatedReading || layer < depth - 1) {
        const gate = characteristic(units[layer], true, count);
        passed = multiply(before, gate, Math.min(count, gate.re.length));
        count = significant(passed, passed.re.length);
      }
      let read = passed;
      if (!gatedReading) {
        const own = characteristic(units[layer], false, seen);
        read = multiply(before, own, Math.min(seen, own.re.length));
      }
      const [low, median, high] = invert(read, significant(read, read.re.length), omega, std[layer]);
      law.low.push(law.logMean[layer] + std[layer] * low);
      law.median.push(law.logMean[layer] + std[layer] * median);
      law.high.push(law.logMean[layer] + std[layer] * high);
    }
    return law;
  }

  /** Quantiles at 2.5, 50 and 97.5 % of a standardized law, by safeguarded Newton on

        F(x) = 1/2 - (1/pi) int_0^inf Im[exp(-i w x) characteristic(w)]/w dw. */
  function invert(characteristic, count, omega, std) {
    const step = (omega.length > 1 ? omega[1] - omega[0] : 2 * omega[0]) * std;
    return [[0.025, -NORMAL_975], [0.5, 0], [0.975, NORMAL_975]].map(([probability, start]) => {
      let x = start, low = -24, high = 24;
      for (let round = 0; round < 60; round++) {
        let excess = 0, density = 0;
        for (let j = 0; j < count; j++) {
          const w = omega[j] * std, cos = Math.cos(w * x), sin = Math.sin(w * x);
          excess += (characteristic.im[j] * cos - characteristic.re[j] * sin) / w;
          density += characteristic.re[j] * cos + characteristic.im[j] * sin;
        }
        excess = 0.5 - (step / Math.PI) * excess - probability;
        density *= step / Math.PI;
        if (excess < 0) low = x;
        else high = x;
        const newton = x - excess / density;
        if (Math.abs(newton - x) < 1e-10) return newton; // the next step would be of the order of 1e-20
        x = newton > low && newton < high ? newton : (low + high) / 2;
      }
      return x;
    });
  }

  // ------------------------------------------------------------------ a setting and its curves

  /* A setting: {depth, width, taper, slope, initializer, fan, scale, direction}.
       taper        n_L/n_0; the widths between run geometrically from `width` to `taper * width`
       initializer  he | he-relu | xavier | lecun | normal | pytorch | custom
       fan          fan_in | fan_out | fan_avg, for he, he-relu, lecun and custom
       scale        fan * Var[w] of custom
       direction    forward: q_l = mean of y_l^2;  backward: the same of dE/dy_l, with 1 at the top */

  /** n_0, n_1, ..., n_L. */
  function widths({ depth, width, taper }) {
    return Array.from({ length: depth + 1 }, (_, l) =>
      Math.max(1, Math.round(width * taper ** (l / depth))));
  }

  /** Var[w] of a weight: He et al. 2015, Eq. 10, 14, 15; Glorot & Bengio 2010, Eq. 12; LeCun 1998. */
  function weightVariance({ initializer, fan, slope, scale }, fanIn, fanOut) {
    const chosen = { fan_in: fanIn, fan_out: fanOut, fan_avg: (fanIn + fanOut) / 2 }[fan];
    switch (initializer) {
      case "he": return 2 / ((1 + slope * slope) * chosen);
      case "he-relu": return 2 / chosen; // the gain of a ReLU, whatever the slope
      case "xavier": return 2 / (fanIn + fanOut);
      case "lecun": return 1 / chosen;
      case "normal": return 1;
      case "pytorch": return 1 / (3 * fanIn); // of U(+-1/sqrt(fan_in)); its biases have the same
      case "custom": return scale / chosen;
    }
    throw new Error(`unknown initializer ${initializer}`);
  }

  /** ln(fan * Var[w_l]) per layer: fan_in for the signal, fan_out for the gradient. */
  function logScales(setting) {
    const n = widths(setting), backward = setting.direction === "backward";
    return n.slice(1).map((fanOut, l) =>
      Math.log(weightVariance(setting, n[l], fanOut) * (backward ? fanOut : n[l])));
  }

  /** A_2 = (1 + a^2)/2: what the rectifier leaves of a Gaussian's second moment. */
  function secondMoment(slope) {
    return (1 + slope * slope) / 2;
  }

  /** log10 of the expectation of q_l, exact at every width: prod s_k A_2.

      A dead layer below stops the gradient too, so backward it counts with P(not dead). */
  function logExpectation(setting) {
    const scales = logScales(setting), gate = Math.log(secondMoment(setting.slope));
    const depth = setting.depth, result = new Array(depth);
    if (setting.direction === "forward") {
      for (let l = 0, sum = 0; l < depth; l++) result[l] = (sum += scales[l] + (l ? gate : 0)) / LN10;
      return result;
    }
    const alive = aliveBelow(setting);
    result[depth - 1] = 0;
    for (let l = depth - 2, sum = 0; l >= 0; l--) {
      sum += scales[l + 1] + gate;
      result[l] = (sum + Math.log(alive[l])) / LN10;
    }
    return result;
  }

  /** P(no layer below l is dead), l = 1 ... L. */
  function aliveBelow(setting) {
    const n = widths(setting);
    let alive = 1;
    return Array.from({ length: setting.depth }, (_, l) => {
      if (l && setting.slope === 0) alive *= 1 - 2 ** -n[l];
      return alive;
    });
  }

  /** log10 E[q_l] forward with PyTorch's biases too, of variance 1/(3 fan_in): q' = s A_2 q + sigma_b^2. */
  function logExpectationWithBiases(setting) {
    const scales = logScales(setting), n = widths(setting);
    const gate = Math.log(secondMoment(setting.slope));
    let log = -gate;
    return scales.map((scale, l) => {
      const signal = log + gate + scale, bias = -Math.log(3 * n[l]);
      const high = Math.max(signal, bias), low = Math.min(signal, bias);
      log = high + Math.log1p(Math.exp(low - high));
      return log / LN10;
    });
  }

  /** Every curve of a setting; arrays of length L.  mean, low, median and high are log10 of q_l. */
  function curves(setting) {
    const { depth, slope, direction } = setting;
    const n = widths(setting), scales = logScales(setting), units = n.slice(1);
    const names = ["logMean", "logVariance", "squaredRatio", "dead", "low", "median", "high"];
    let law, shift;
    if (direction === "forward") {
      law = signalLaw(units, slope, false);
      let sum = 0;
      shift = scales.map((scale) => (sum += scale));
    } else { // the same process read from the top, with every gate passed; the cotangent itself is 1
      const gates = units.slice(0, -1);
      const hidden = gates.length ? signalLaw([...gates].reverse(), slope, true) : null;
      law = Object.fromEntries(names.map((name) => [name, hidden ? hidden[name].reverse() : []]));
      for (const name of names) law[name].push(name === "squaredRatio" ? 1 : 0);
      const everyGate = 1 - gates.reduce((alive, k) => alive * (1 - (slope === 0 ? 2 ** -k : 0)), 1);
      law.dead.fill(everyGate, 0, depth - 1);
      shift = new Array(depth).fill(0);
      for (let l = depth - 2; l >= 0; l--) shift[l] = shift[l + 1] + scales[l + 1];
    }
    const log10 = (values) => values.map((value, l) => (value + shift[l]) / LN10);
    return {
      mean: logExpectation(setting),
      low: log10(law.low),
      median: log10(law.median),
      high: log10(law.high),
      logMean: law.logMean.map((value, l) => value + shift[l]),
      logVariance: law.logVariance,
      squaredRatio: law.squaredRatio,
      dead: law.dead,
    };
  }

  // ------------------------------------------------------------------ correlation of two inputs

  /** The infinite-width map of the correlation of two inputs through one layer:

        f_a(c) = [(1+a)^2 c + (1-a)^2 (2/pi)(sqrt(1-c^2) + c arcsin c)] / [2(1+a^2)] */
  function correlationMap(slope, correlation) {
    const c = Math.min(Math.max(correlation, -1), 1);
    const arc = (2 / Math.PI) * (Math.sqrt(1 - c * c) + c * Math.asin(c));
    return ((1 + slope) ** 2 * c + (1 - slope) ** 2 * arc) / (2 * (1 + slope * slope));
  }

  /** c_1, ..., c_depth, of the pre-activations of each layer: c_1 = c_0, the inputs', for no rectifier
   *  lies before it, and c_{l+1} = f(c_l). */
  function correlations(slope, start, depth) {
    const result = [start];
    while (result.length < depth) result.push(correlationMap(slope, result.at(-1)));
    return result;
  }

  /** Where 1 - c_l goes: 9 pi^2/(2 kappa^2 l^2), kappa = (1-a)^2/(1+a^2); infinite for a = 1. */
  function correlationAsymptote(slope, layer) {
    const kappa = (1 - slope) ** 2 / (1 + slope * slope);
    return (9 * Math.PI ** 2) / (2 * (kappa * layer) ** 2);
  }

  return {
    digamma, trigamma, logGamma, logGammaRatio, binomialHalf, logFactor, spreadCoefficient, signalLaw,
    widths, weightVariance, logScales, secondMoment, logExpectation, logExpectationWithBiases, curves,
    correlationMap, correlations, correlationAsymptote,
  };
})();

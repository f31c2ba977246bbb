/* The first two panels, and the controls of the third: what they say goes into the theory, and its curves
   onto the page. */

globalThis.Fanin = globalThis.Fanin || {};

Fanin.explorer = (() => {
  "use strict";

  const T = Fanin.theory, C = Fanin.chart;
  const $ = (id) => document.getElementById(`fx-${id}`);

  const NAMES = {
    "he": "He, gain for this slope",
    "he-relu": "He, gain for ReLU: 2/fan",
    "xavier": "Xavier",
    "lecun": "LeCun",
    "normal": "N(0, 1)",
    "pytorch": "PyTorch’s default, 1/(3 fan in)",
    "custom": "custom variance",
  };
  const SHORT = { "he": "He", "he-relu": "He for ReLU", "xavier": "Xavier", "lecun": "LeCun",
    "normal": "N(0, 1)", "pytorch": "PyTorch", "custom": "custom" };
  const OWN_FAN = {
    xavier: "Xavier takes the average of both fans by definition.",
    normal: "N(0, 1) knows no fan.",
    pytorch: "PyTorch takes fan in. It draws uniform weights and biases; shown are Gaussian weights of the " +
      "same variance without biases, and as a dashed line the mean with its biases.",
  };

  // ------------------------------------------------------------------ state and controls

  const state = {
    depth: 30, width: 512, taper: 1, slope: 0, initializer: "he", fan: "fan_in", scale: 2,
    direction: "forward",
    layer: null, // where the numbers are read; null: where the signal or the gradient arrives
    start: 0, // c_0
    drawn: null, // {seed, count} of the networks on show
  };

  const series = (from, to, step) =>
    Array.from({ length: Math.round((to - from) / step) + 1 }, (_, i) => +(from + i * step).toFixed(6));
  const STOPS = {
    depth: [...series(1, 40, 1), ...series(45, 60, 5), ...series(70, 100, 10), 120, 150, 200, 250, 300,
      400, 500, 700, 1000],
    width: [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048,
      3072, 4096],
    taper: [0.25, 1 / 3, 0.5, 2 / 3, 1, 1.5, 2, 3, 4],
    slope: series(0, 1, 0.01),
    scale: [0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, ...series(1, 3, 0.05), 3.5, 4, 5, 6, 8,
      10],
  };
  const TAPERS = ["¼", "⅓", "½", "⅔", "1", "1.5", "2", "3", "4"];
  const SLIDERS = [["depth", "depth"], ["width", "width"], ["taper", "taper"], ["slope", "slope"],
    ["scale", "scale"], ["slope-2", "slope"], ["depth-2", "depth"], ["depth-3", "depth"],
    ["width-3", "width"], ["scale-3", "scale"]];
  const CHOICES = ["initializer", "initializer-3"];

  /** A slider runs over the stops of its quantity, one per key press. */
  function bindSliders() {
    for (const [id, name] of SLIDERS) {
      const slider = $(id);
      Object.assign(slider, { min: 0, max: STOPS[name].length - 1, step: 1 });
      slider.addEventListener("input", () => {
        state[name] = STOPS[name][slider.valueAsNumber];
        if (name === "scale") state.initializer = "custom";
        changed();
      });
    }
    $("layer").addEventListener("input", () => {
      state.layer = $("layer").valueAsNumber;
      changed();
    });
    $("start").addEventListener("input", () => {
      state.start = $("start").valueAsNumber;
      changed();
    });
  }

  function bindControls() {
    for (const id of CHOICES) {
      for (const [value, text] of Object.entries(NAMES)) $(id).add(new Option(text, value));
      $(id).addEventListener("change", () => {
        if ($(id).value === "custom") state.scale = nearest(STOPS.scale, scaleNow());
        state.initializer = $(id).value;
        changed();
      });
    }
    for (const name of ["fan", "direction"]) {
      for (const radio of radios(name)) {
        radio.addEventListener("change", () => {
          state[name] = radio.value;
          if (name === "direction") state.layer = null;
          changed();
        });
      }
    }
    for (const box of radios("compare")) box.addEventListener("change", changed);
    $("draw").addEventListener("click", () => {
      const seed = Math.min(Math.max(Math.round($("seed").valueAsNumber) || 0, 0), 2 ** 32 - 1);
      // the seed on show first, then a fresh one at every press
      const again = state.drawn && state.drawn.seed === seed;
      state.drawn = { seed: again ? (seed + 1) >>> 0 : seed, count: +$("count").value };
      $("seed").value = state.drawn.seed;
      changed();
    });
    $("clear").addEventListener("click", () => {
      state.drawn = null;
      $("draw").focus();
      changed();
    });
    $("numbers").addEventListener("toggle", changed);
    document.querySelector(".fx-controls").addEventListener("submit", (event) => event.preventDefault());
  }

  const radios = (name) => document.querySelectorAll(`#fx input[name="fx-${name}"]`);

  const nearest = (stops, value) =>
    stops.reduce((best, stop) =>
      Math.abs(Math.log(stop / value)) < Math.abs(Math.log(best / value)) ? stop : best);

  /** fan * Var[w] at layer 1, with the fan that the law goes by. */
  function scaleNow() {
    const [fanIn, fanOut] = T.widths(state);
    const fan = { xavier: "fan_avg", normal: "fan_in", pytorch: "fan_in" }[state.initializer] || state.fan;
    const fans = { fan_in: fanIn, fan_out: fanOut, fan_avg: (fanIn + fanOut) / 2 };
    return T.weightVariance(state, fanIn, fanOut) * fans[fan];
  }

  /** Every control shows the state, in words too. */
  function showControls() {
    const n = T.widths(state), scale = scaleNow(), { depth, slope, initializer } = state;
    const slopeWords = slope === 0 ? "0, ReLU" : slope === 1 ? "1, linear"
      : slope === 0.25 ? "0.25, PReLU’s start" : slope.toFixed(2);
    const words = {
      depth: `${depth} ${depth === 1 ? "layer" : "layers"}`,
      width: state.taper === 1 ? `${n[0]} units` : `${n[0]} → ${n.at(-1)} units`,
      taper: state.taper === 1 ? "1, equal widths" : TAPERS[STOPS.taper.indexOf(state.taper)],
      slope: slopeWords,
      scale: figures(Math.log10(scale)),
    };
    for (const [id, name] of SLIDERS) {
      const value = name === "scale" && initializer !== "custom" ? nearest(STOPS.scale, scale) : state[name];
      $(id).value = STOPS[name].indexOf(value);
      say(id, words[name]);
    }
    for (const id of CHOICES) $(id).value = initializer;
    const variance = T.weightVariance(state, n[0], n[1]);
    $("scale-hint").textContent = `Var[w] = ${figures(Math.log10(variance))} in layer 1` +
      (initializer === "custom" ? "." : `, by ${SHORT[initializer]}. Move it to choose your own.`);
    for (const radio of radios("fan")) radio.disabled = initializer in OWN_FAN;
    $("fan-hint").textContent = OWN_FAN[initializer] || (n.every((k) => k === n[0])
      ? "All widths are equal, so the three are one number."
      : "Widths differ, so signal and gradient cannot both stay level.");
    const last = state.direction === "forward" ? depth : 1;
    if (state.layer > depth) state.layer = null;
    Object.assign($("layer"), { max: depth, value: state.layer ?? last });
    say("layer", `${state.layer ?? last} of ${depth}`);
    $("start").value = state.start;
    say("start", state.start.toFixed(2).replace("-", "−"));
    $("clear").disabled = !state.drawn;
  }

  function say(id, words) {
    $(`${id}-value`).textContent = words;
    $(id).setAttribute("aria-valuetext", words);
  }

  // ------------------------------------------------------------------ numbers in words

  const SUPERSCRIPT = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸",
    9: "⁹" };

  /** 10**log10 with three digits, at any range: 2.00, 0.0312, 1.86 × 10⁻⁹. */
  function figures(log10, digits = 3) {
    if (log10 === -Infinity) return "0";
    let exponent = Math.floor(log10), mantissa = (10 ** (log10 - exponent)).toFixed(digits - 1);
    if (mantissa.startsWith("10")) [exponent, mantissa] = [exponent + 1, (1).toFixed(digits - 1)];
    if (exponent >= -3 && exponent < digits + 1) {
      return (mantissa * 10 ** exponent).toFixed(Math.max(digits - 1 - exponent, 0));
    }
    return `${mantissa}\u00a0×\u00a010${[...String(exponent)].map((c) => SUPERSCRIPT[c]).join("")}`;
  }

  // ------------------------------------------------------------------ the first panel

  const lawOf = ({ depth, width, taper, slope, initializer, fan, scale, direction }) =>
    JSON.stringify([depth, width, taper, slope, initializer, fan, scale, direction]);
  let known = { law: null, curves: null };

  /** All that it draws: the curves, and the drawn networks if there are any. */
  function compute() {
    if (known.law !== lawOf(state)) known = { law: lawOf(state), curves: T.curves(state) };
    const result = { ...known.curves };
    if (state.drawn) {
      const random = Fanin.sampler.generator(state.drawn.seed);
      result.networks = Array.from({ length: state.drawn.count }, () => Fanin.sampler.network(state, random));
      result.sampleMean = result.mean.map((_, l) => log10Mean(result.networks.map((net) => net[l])));
    }
    return result;
  }

  /** log10 of the mean of 10**value, safe at any range. */
  function log10Mean(values) {
    const high = Math.max(...values);
    if (high === -Infinity) return high;
    return high + Math.log10(values.reduce((sum, value) => sum + 10 ** (value - high), 0) / values.length);
  }

  /** Both charts, the legend and the sentences; without a band while that is being computed. */
  function showSignal(result) {
    const layers = result.mean.map((_, l) => l + 1);
    const look = { ...C.initializerLook(state.initializer.replace("he-relu", "he")) };
    if (state.initializer === "custom") look.color = "ink";
    const reading = (state.layer ?? (state.direction === "forward" ? state.depth : 1)) - 1;
    const backward = state.direction === "backward";
    $("level-title").innerHTML = backward
      ? "Second moment of the gradient ∂<i>E</i>/∂<i>y</i> <span>by layer; 1 at the last</span>"
      : "Second moment of the pre-activations <i>y</i> <span>by layer; 1 at the input</span>";
    $("ratio-title").innerHTML = "The same divided by its mean <span>by layer</span>";
    const x = layerAxis(state.depth);
    const rule = { kind: "rule", x: reading + 1, className: "fx-reading" };

    const level = marks(result, layers, look, (values) => values);
    const others = comparisons(layers);
    const drawn = [...level, ...others, rule];
    const y = powerAxis(drawn);
    const chart = C.draw($("level"), {
      height: narrow() ? 210 : 300, right: others.length ? 66 : 16, x, y, series: drawn,
      label: describe(result, reading, backward ? "Gradient" : "Signal"),
    });
    $("level").onclick = (event) => {
      state.layer = Math.min(Math.max(Math.round(chart.layerAt(event.clientX)), 1), state.depth);
      changed();
    };

    const ratio = marks(result, layers, look, (values) => values.map((v, l) => v - result.mean[l]), true);
    C.draw($("ratio"), {
      height: narrow() ? 200 : 240, right: others.length ? 66 : 16, x, y: powerAxis(ratio, 0.3),
      series: [...ratio, rule],
      label: `The same divided by the mean: at layer ${reading + 1} ${band(result, reading, true)}`,
    });
    legend(result, look);
    sentences(result, reading, backward);
    if ($("numbers").open) numbers(result);
  }

  /** The series that both charts share; `scaled` divides by the mean or does nothing. */
  function marks(result, layers, look, scaled, ratio = false) {
    const list = [];
    if (result.low) {
      list.push({ kind: "area", name: "band", color: "band", x: layers, low: scaled(result.low),
        high: scaled(result.high), y: [] });
    }
    for (const net of result.networks || []) {
      list.push({ kind: "line", name: "network", color: look.color, className: "fx-net", x: layers,
        y: scaled(net) });
    }
    list.push({ kind: "line", name: "mean", color: look.color, className: "fx-bold", x: layers,
      y: scaled(result.mean), endLabel: ratio ? undefined : SHORT[state.initializer] });
    if (!ratio && state.initializer === "pytorch" && state.direction === "forward") {
      list.push({ kind: "line", name: "mean-with-biases", color: look.color, dash: "6 4", x: layers,
        y: T.logExpectationWithBiases(state) });
    }
    if (result.median) {
      list.push({ kind: "line", name: "median", color: "ink", dash: "2 4", x: layers, y: scaled(result.median) });
    }
    if (result.sampleMean) {
      list.push({ kind: "points", name: "sample-mean", color: look.color, marker: "o", hollow: true, x: layers,
        y: scaled(result.sampleMean) });
    }
    if (!ratio && !comparing().length) delete list.find((one) => one.name === "mean").endLabel;
    return list;
  }

  const comparing = () => [...radios("compare")]
    .filter((box) => box.checked && box.value !== state.initializer)
    .map((box) => box.value);

  /** The means of other initializers under the same settings. */
  function comparisons(layers) {
    return comparing().map((initializer) => {
      const { color, dash } = C.initializerLook(initializer);
      return { kind: "line", name: `compare-${initializer}`, color, dash, className: "fx-thin", x: layers,
        y: T.logExpectation({ ...state, initializer }), endLabel: SHORT[initializer] };
    });
  }

  function layerAxis(depth) {
    const ticks = C.roundTicks(1, depth, narrow() ? 6 : 10, true).filter(({ at }) => at >= 1);
    if (ticks[0].at > 1 && ticks[0].at - 1 > (depth - 1) / 40) ticks.unshift({ at: 1, label: "1" });
    return depth === 1
      ? { low: 0.5, high: 1.5, ticks: [{ at: 1, label: "1" }], title: "layer" }
      : { low: 1, high: depth, ticks, title: "layer" };
  }

  function powerAxis(drawn, least = 0.5) {
    const lists = drawn.flatMap((one) => [one.y, one.low, one.high].filter(Array.isArray));
    const [low, high] = C.extent(lists, least);
    return { low, high, ticks: C.powerTicks(low, high, 6) };
  }

  const narrow = () => $("level").clientWidth < 520;

  const band = ({ mean, low, median, high }, l, ratio = false) => {
    if (!low) return "the band is being computed";
    const [a, b, c] = [low, median, high].map((values) => figures(values[l] - (ratio ? mean[l] : 0)));
    return `the median is ${b} and 95\u00a0% of networks lie between ${a} and ${c}`;
  };

  function describe(result, l, what) {
    const end = result.mean.length;
    return `${what} by layer, logarithmic axis: the mean goes from ${figures(result.mean[0])} at layer 1 to ` +
      `${figures(result.mean[end - 1])} at layer ${end}; at layer ${l + 1} ${band(result, l)}`;
  }

  function legend(result, look) {
    const items = [
      [{ kind: "line", color: look.color, className: "fx-bold" }, "mean of all networks, exact"],
      [{ kind: "line", color: "ink", dash: "2 4" }, "typical network (median), exact"],
      [{ kind: "area", color: "band" }, "95 % of single networks, exact"],
    ];
    if (state.initializer === "pytorch" && state.direction === "forward") {
      items.push([{ kind: "line", color: look.color, dash: "6 4" }, "mean with PyTorch’s biases, exact"]);
    }
    if (result.networks) {
      items.push([{ kind: "line", color: look.color, className: "fx-net" }, "one drawn network"]);
      items.push([{ color: look.color, marker: "o", hollow: true }, "mean of the drawn ones"]);
    }
    $("legend").replaceChildren(...items.map(([one, text]) => {
      const item = document.createElement("li");
      item.append(C.swatch(one), text);
      return item;
    }));
  }

  function sentences(result, l, backward) {
    const { depth, slope } = state, { mean } = result, n = T.widths(state);
    const growth = (depth > 1 ? (mean[depth - 1] - mean[0]) / (depth - 1) : 0) * (backward ? -1 : 1);
    const stable = Math.abs(growth) < Math.log10(1.02);
    const verdict = stable ? "stable" : growth > 0 ? "exploding" : "vanishing";
    const rectifier = slope === 0 ? "ReLU" : slope === 1 ? "no rectifier" : `slope ${slope}`;
    const units = n.every((k) => k === n[0]) ? n[0] : `${n[0]} to ${n.at(-1)}`;
    const step = depth === 1 ? "" : " Each layer multiplies the mean by " +
      `<strong>${figures(growth, 4)}</strong>: <strong>${verdict}</strong>.`;
    const dead = result.dead && result.dead[l] > 5e-5
      ? ` ${(100 * result.dead[l]).toPrecision(2)}\u00a0% of networks are dead there; median and band are ` +
        "of the others."
      : "";
    $("sentence").innerHTML = `${SHORT[state.initializer]}, ${rectifier}, ${depth} ` +
      `${depth === 1 ? "layer" : "layers"} of ${units}.${step} At layer ${l + 1} the mean is ` +
      `<strong>${figures(mean[l])}</strong>; ${band(result, l)}.${dead}`;
    $("drawn").textContent = "";
    if (!result.networks) return;
    const there = result.networks.map((net) => net[l]).filter((value) => value > -Infinity);
    const inside = there.filter((value) => value >= result.low[l] && value <= result.high[l]).length;
    const silent = result.networks.length - there.length;
    $("drawn").textContent = `Seed ${state.drawn.seed}: at layer ${l + 1}, ${inside} of ${there.length} drawn ` +
      `networks lie in the band; ${(0.95 * there.length).toFixed(1)} are expected to.` +
      `${silent ? ` ${silent} more are dead.` : ""} Their mean is ${figures(result.sampleMean[l])}.`;
  }

  function numbers(result) {
    const n = T.widths(state), body = $("numbers").querySelector("tbody");
    body.replaceChildren(...result.mean.map((_, l) => {
      const row = document.createElement("tr");
      const cells = [result.mean, result.median, result.low, result.high]
        .map((values) => (values ? figures(values[l]) : "…"));
      for (const text of [l + 1, n[l + 1], ...cells]) row.insertCell().textContent = text;
      return row;
    }));
  }

  // ------------------------------------------------------------------ the second panel

  function showCorrelation() {
    const { slope, depth, start } = state;
    const c = T.correlations(slope, start, depth), last = c.at(-1), low = start < 0 ? -1 : 0;
    const grid = series(0, 1, 0.005).map((t) => low + (1 - low) * t);
    const stairs = { x: [start], y: [low] };
    for (let l = 1; l < Math.min(depth, 300); l++) { // up to the curve, across to the diagonal
      stairs.x.push(c[l - 1], c[l]);
      stairs.y.push(c[l], c[l]);
    }
    const unit = { low, high: 1, ticks: C.roundTicks(low, 1, 5) };
    const height = Math.min(Math.max($("map").clientWidth, 260), 380);
    C.draw($("map"), {
      height, right: 16, x: { ...unit, title: "correlation at this layer" }, y: unit,
      label: `Correlation map of slope ${slope}: from ${start} the iteration reaches ` +
        `${last.toFixed(4)} at layer ${depth}`,
      series: [
        { kind: "line", color: "soft", className: "fx-thin", x: [low, 1], y: [low, 1] },
        { kind: "line", name: "map", color: "ink", x: grid, y: grid.map((at) => T.correlationMap(slope, at)) },
        { kind: "line", name: "stairs", color: "blue", x: stairs.x, y: stairs.y },
      ],
    });
    showApproach(c, height);
    const angle = (Math.acos(Math.min(Math.max(last, -1), 1)) * 180) / Math.PI;
    $("pair").innerHTML = `At layer ${depth}, before its rectifier, the correlation is ` +
      `<strong>${last.toFixed(4).replace("-", "−")}</strong>, an angle of ${angle.toFixed(1)}°.`;
  }

  /** 1 - c_l against l on logarithmic axes, and the power law it tends to. */
  function showApproach(c, height) {
    const layers = c.map((_, l) => l + 1), places = layers.map(Math.log10);
    const left = c.map((value) => Math.log10(1 - value));
    const limit = layers.map((l) => Math.log10(T.correlationAsymptote(state.slope, l)));
    const most = Math.log10(2) + 0.05; // 1 − c is never above 2: the limit starts where it comes below
    const shown = limit.map((value) => (value <= most ? value : NaN));
    const [low, high] = C.extent([left, shown], 0.6);
    const end = places.at(-1) || 0.3;
    C.draw($("approach"), {
      height, right: 16,
      x: { low: 0, high: end, ticks: C.powerTicks(0, end, 6), title: "layer" },
      y: { low, high, ticks: C.powerTicks(low, high, 6) },
      label: `One minus the correlation by layer, both axes logarithmic: ${figures(left[0])} at layer 1, ` +
        `${figures(left.at(-1))} at layer ${layers.length}`,
      series: [
        { kind: "line", name: "asymptote", color: "ink", dash: "6 4", className: "fx-thin", x: places, y: shown },
        { kind: "line", name: "left", color: "blue", marker: "o", most: 12, x: places, y: left },
      ],
    });
  }

  // ------------------------------------------------------------------ when something changed

  let frame = 0, timer = 0, lastTook = 0;

  /** Once per frame; where the band took long, it waits until the slider rests, and none is shown. */
  function changed() {
    $("level").closest(".fx").setAttribute("aria-busy", "true");
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    frame = requestAnimationFrame(() => {
      showControls();
      showCorrelation();
      Fanin.frontier.show(state);
      if (lastTook < 80 || known.law === lawOf(state)) {
        settle();
      } else {
        showSignal({ mean: T.logExpectation(state) });
        timer = setTimeout(settle, 200);
      }
    });
  }

  function settle() {
    const began = performance.now();
    const result = compute();
    lastTook = performance.now() - began;
    showSignal(result);
    $("level").closest(".fx").setAttribute("aria-busy", "false");
  }

  function begin() {
    Fanin.frontier.begin();
    bindSliders();
    bindControls();
    let width = 0;
    new ResizeObserver(([entry]) => {
      const now = Math.round(entry.contentRect.width);
      if (now === width || now === 0) return; // 0: hidden by the page around it
      width = now;
      changed();
      Fanin.study.show();
    }).observe($("level").closest(".fx"));
    const wide = new ResizeObserver((seen) => seen.forEach(({ target }) => {
      const around = target.closest(".fx-scroll");
      around.toggleAttribute("data-wide", around.scrollWidth > around.clientWidth);
    }));
    document.querySelectorAll(".fx-scroll, .fx-scroll table").forEach((one) => wide.observe(one));
  }

  return { begin, figures, SHORT };
})();

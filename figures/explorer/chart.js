/* Small charts in SVG: axes, lines, bands and points, redrawn whole at the width they have.

   Every series carries its numbers at full precision in data-values, so that what is drawn can be read
   back.  Colors are names of the style sheet's custom properties: light and dark are its business. */

globalThis.Fanin = globalThis.Fanin || {};

Fanin.chart = (() => {
  "use strict";

  const SVG = "http://www.w3.org/2000/svg";
  const MARKERS = { // the markers of figures/style.py, around the origin
    o: "M3,0A3,3 0 1 1 -3,0A3,3 0 1 1 3,0Z",
    s: "M-2.7,-2.7H2.7V2.7H-2.7Z",
    D: "M0,-3.8L3.8,0L0,3.8L-3.8,0Z",
    "^": "M0,-3.6L3.6,2.8H-3.6Z",
    v: "M0,3.6L3.6,-2.8H-3.6Z",
    P: "M-1.2,-3.5H1.2V-1.2H3.5V1.2H1.2V3.5H-1.2V1.2H-3.5V-1.2H-1.2Z",
    X: "M-3.4,-1.6L-1.6,-3.4L0,-1.8L1.6,-3.4L3.4,-1.6L1.8,0L3.4,1.6L1.6,3.4L0,1.8L-1.6,3.4L-3.4,1.6L-1.8,0Z",
  };

  /* The looks of figures/style.py: a color and a dash for each initializer, a marker for each depth. */
  const LOOKS = [
    { color: "blue", marker: "o", dash: "" },
    { color: "vermilion", marker: "s", dash: "7 3" },
    { color: "green", marker: "D", dash: "8 3 2 3" },
    { color: "purple", marker: "^", dash: "2 3" },
    { color: "orange", marker: "v", dash: "6 2 2 2 2 2" },
    { color: "sky", marker: "P", dash: "2 2" },
    { color: "ink", marker: "X", dash: "10 3" },
  ];
  const ORDER = [
    "he", "xavier", "normal", "lecun", "pytorch", "orthogonal", "he-uniform", "xavier-uniform",
    "he-truncated",
  ];

  /** The look of an initializer; one that has no place in the order takes the fourth. */
  function initializerLook(name) {
    const place = ORDER.indexOf(name);
    return LOOKS[(place < 0 ? 3 : place) % LOOKS.length];
  }

  /* The shade and the marker of the study's depths: the deeper, the stronger against the paper. */
  const DEPTHS = {
    2: [0.5, "o"], 5: [0.22, "s"], 10: [-0.15, "D"], 12: [-0.5, "^"], 22: [0.22, "v"], 30: [-0.5, "P"],
  };

  /** A shade (1 is nearly the paper's color, -1 the ink's) and a marker for each of `depths`, which rise. */
  function depthLooks(depths) {
    const known = depths.every((depth) => depth in DEPTHS);
    const step = 1 / Math.max(depths.length - 1, 1);
    return new Map(depths.map((depth, i) => {
      const [shade, marker] = known ? DEPTHS[depth] : [0.5 - step * i, LOOKS[i % LOOKS.length].marker];
      return [depth, { shade, marker }];
    }));
  }

  /** The style of a series: its color, made paler or deeper by its shade. */
  function colored({ color = "ink", shade = 0 }) {
    const share = Math.round(100 * Math.abs(shade));
    const mixed = `color-mix(in srgb, var(--fx-${shade > 0 ? "fade" : "ink"}) ${share}%, var(--fx-${color}))`;
    return `--fx-this: ${share ? mixed : `var(--fx-${color})`}`;
  }

  function element(parent, name, attributes = {}, text) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  }

  // ------------------------------------------------------------------ ticks

  /** About `count` round numbers in [low, high]. */
  function roundTicks(low, high, count, whole = false) {
    const raw = (high - low) / count || 1, size = 10 ** Math.floor(Math.log10(raw));
    let step = size * [1, 2, 5, 10].find((k) => k * size >= raw * 0.999);
    if (whole) step = Math.max(1, Math.round(step));
    const ticks = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) ticks.push(k * step);
    return ticks.map((at) => ({ at, label: String(+at.toPrecision(12)).replace("-", "−") }));
  }

  /** Ticks of an axis that holds log10 values: powers of ten, or 1, 2, 5 where there are few decades. */
  function powerTicks(low, high, count = 6) {
    if (high - low >= 2.5) {
      return roundTicks(low, high, count, true)
        .map(({ at, label }) => ({ at, label: "10", power: label }));
    }
    for (const within of [[1], [1, 2, 5], [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8]]) {
      const ticks = [];
      for (let decade = Math.floor(low); decade <= high; decade++) {
        for (const k of within) {
          const at = decade + Math.log10(k);
          if (at >= low && at <= high) ticks.push({ at, label: String(+(k * 10 ** decade).toPrecision(3)) });
        }
      }
      if (ticks.length >= 3) return ticks.filter((_, i) => i % Math.ceil(ticks.length / (count + 1)) === 0);
    }
    return roundTicks(10 ** low, 10 ** high, count - 1)
      .filter(({ at }) => at > 0)
      .map(({ at, label }) => ({ at: Math.log10(at), label }));
  }

  // ------------------------------------------------------------------ drawing

  /** Draw into `host`, whose width is taken as it is.

      label   what a screen reader says of the whole chart
      height  in pixels;  right  pixels kept for labels at the lines' ends
      x, y    {low, high, ticks, title}
      series  [{kind: area | line | points | rule | cells, name, x, y, (low, high), color, …}] */
  function draw(host, { label, height, right = 14, x, y, series }) {
    const width = Math.max(host.clientWidth, 200);
    const box = { left: 50, top: 10, right: width - right, bottom: height - 36 };
    const across = (value) => box.left + ((value - x.low) / (x.high - x.low || 1)) * (box.right - box.left);
    const up = (value) => box.bottom - ((value - y.low) / (y.high - y.low || 1)) * (box.bottom - box.top);
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("width", width);
    svg.setAttribute("height", height);
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
    axes(svg, box, across, up, x, y);
    const id = `${host.id}-clip`;
    const clip = element(element(svg, "defs"), "clipPath", { id });
    element(clip, "rect", {
      x: box.left - 4, y: box.top - 4, width: box.right - box.left + 8, height: box.bottom - box.top + 8,
    });
    const inside = element(svg, "g", { "clip-path": `url(#${id})` });
    for (const one of series) mark(inside, one, box, across, up);
    endLabels(svg, series, box, up);
    host.replaceChildren(svg);
    return { layerAt: (clientX) => {
      const place = clientX - svg.getBoundingClientRect().left;
      return x.low + ((place - box.left) / (box.right - box.left)) * (x.high - x.low);
    } };
  }

  function axes(svg, box, across, up, x, y) {
    const grid = element(svg, "g", { class: "fx-grid-lines", "aria-hidden": "true" });
    const words = element(svg, "g", { class: "fx-ticks", "aria-hidden": "true" });
    for (const tick of y.ticks) {
      const at = up(tick.at);
      element(grid, "line", { x1: box.left, x2: box.right, y1: at, y2: at });
      const text = element(words, "text", { x: box.left - 7, y: at + 4, "text-anchor": "end" }, tick.label);
      if (tick.power !== undefined) element(text, "tspan", { dy: "-5", class: "fx-power" }, tick.power);
    }
    for (const tick of x.ticks) {
      const at = across(tick.at);
      element(grid, "line", { x1: at, x2: at, y1: box.top, y2: box.bottom });
      element(words, "text", { x: at, y: box.bottom + 16, "text-anchor": "middle" }, tick.label);
    }
    element(grid, "line", {
      class: "fx-axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom,
    });
    element(words, "text", { x: box.right, y: box.bottom + 31, "text-anchor": "end" }, x.title);
  }

  function mark(group, one, box, across, up) {
    const style = colored(one);
    const about = { class: `fx-${one.kind} ${one.className || ""}`, style };
    if (one.name) about["data-name"] = one.name;
    if (one.dash) about["stroke-dasharray"] = one.dash;
    if (one.kind === "rule") {
      const at = one.x !== undefined ? across(one.x) : up(one.y);
      const ends = one.x !== undefined
        ? { x1: at, x2: at, y1: box.top, y2: box.bottom }
        : { x1: box.left, x2: box.right, y1: at, y2: at };
      element(group, "line", { ...about, ...ends });
      return;
    }
    if (one.kind === "cells") {
      cells(element(group, "g", about), one.cells, across, up);
      return;
    }
    if (one.kind === "area") {
      about["data-low"] = JSON.stringify(one.low);
      about["data-high"] = JSON.stringify(one.high);
      const around = one.x.length > 1 // a lone layer has a bar
        ? [one.x.map(across), one.low, one.high]
        : [[across(one.x[0]) - 7, across(one.x[0]) + 7], ...[one.low, one.high].map(([y]) => [y, y])];
      const [places, low, high] = around;
      const back = (values) => [...values].reverse();
      about.d = path([...places, ...back(places)], [...high, ...back(low)], Number, up) + "Z";
    } else {
      if (one.name) about["data-values"] = JSON.stringify(one.y);
      about.d = one.kind === "points" ? "" : path(one.x, one.y, across, up);
    }
    if (one.kind !== "points") element(group, "path", about);
    if (one.marker) points(group, one, style, across, up);
  }

  /** Squares of size 1 with a text in each: {x, y, text, shade (of the color, up to 1), className, last: the
      text ends with the square}. */
  function cells(group, list, across, up) {
    const width = across(1) - across(0), height = up(0) - up(1);
    for (const { x, y, text, shade, className = "", last } of list) {
      const left = across(x) - width / 2, top = up(y) - height / 2;
      if (shade) element(group, "rect", { x: left, y: top, width, height, "fill-opacity": shade.toFixed(3) });
      if (text === undefined) continue;
      const about = { y: up(y) + 4, class: className };
      Object.assign(about, last ? { x: left + width + 3, "text-anchor": "end" }
        : { x: left + width / 2, "text-anchor": "middle" });
      element(group, "text", about, text);
    }
  }

  /** An SVG path through the finite points; a lone point becomes a dash. */
  function path(xs, ys, across, up) {
    if (xs.length === 1 && Number.isFinite(ys[0])) return `M${across(xs[0]) - 7},${up(ys[0])}h14`;
    let d = "", pen = false;
    xs.forEach((x, i) => {
      if (!Number.isFinite(ys[i])) {
        pen = false;
        return;
      }
      d += `${pen ? "L" : "M"}${across(x).toFixed(2)},${up(ys[i]).toFixed(2)}`;
      pen = true;
    });
    return d;
  }

  function points(group, one, style, across, up) {
    const made = element(group, "g", { class: `fx-marks ${one.className || ""}`, style });
    const every = Math.max(1, Math.ceil(one.x.length / (one.most || 16)));
    one.x.forEach((x, i) => {
      if (!Number.isFinite(one.y[i]) || (i % every && i !== one.x.length - 1)) return;
      element(made, "path", {
        d: MARKERS[one.marker],
        transform: `translate(${across(x).toFixed(2)},${up(one.y[i]).toFixed(2)}) scale(${one.size || 1})`,
        ...(one.hollow ? { class: "fx-hollow" } : {}),
      });
    });
  }

  /** The names of lines at their right ends, pushed apart where they would overlap. */
  function endLabels(svg, series, box, up) {
    const words = element(svg, "g", { class: "fx-end-labels", "aria-hidden": "true" });
    const labels = series.filter((one) => one.endLabel)
      .map((one) => ({ one, at: up(one.y.filter(Number.isFinite).at(-1)) }))
      .sort((a, b) => a.at - b.at);
    labels.forEach((label, i) => {
      if (i) label.at = Math.max(label.at, labels[i - 1].at + 14);
    });
    const over = labels.length ? labels.at(-1).at - box.bottom : 0;
    for (let i = labels.length - 1, most = box.bottom; over > 0 && i >= 0; i--, most -= 14) {
      labels[i].at = Math.min(labels[i].at, most);
    }
    for (const { one, at } of labels) {
      element(words, "text", {
        x: box.right + 8, y: at + 4, style: colored(one),
      }, one.endLabel);
    }
  }

  /** [low, high] of all finite values, a little wider, and never empty. */
  function extent(lists, least = 0.1) {
    let low = Infinity, high = -Infinity;
    for (const list of lists) {
      for (const value of list) {
        if (!Number.isFinite(value)) continue;
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
    }
    if (low > high) [low, high] = [0, 1];
    const room = Math.max((high - low) * 0.06, (least - (high - low)) / 2, 0);
    return [low - room, high + room];
  }

  /** A few millimeters of a series, for a legend. */
  function swatch({ kind, color, shade, dash, marker, hollow, className }) {
    const svg = document.createElementNS(SVG, "svg");
    for (const [key, value] of Object.entries({ width: 34, height: 14, viewBox: "0 0 34 14" })) {
      svg.setAttribute(key, value);
    }
    svg.setAttribute("aria-hidden", "true");
    const style = colored({ color, shade });
    if (kind === "area") element(svg, "rect", { class: "fx-area", style, x: 2, y: 2, width: 30, height: 10 });
    if (kind === "line") {
      const about = { class: `fx-line ${className || ""}`, style, d: "M2,7H32" };
      element(svg, "path", dash ? { ...about, "stroke-dasharray": dash } : about);
    }
    if (marker) {
      const group = element(svg, "g", { class: "fx-marks", style });
      const about = { d: MARKERS[marker], transform: "translate(17,7)" };
      element(group, "path", hollow ? { ...about, class: "fx-hollow" } : about);
    }
    return svg;
  }

  return { draw, element, extent, powerTicks, roundTicks, swatch, initializerLook, depthLooks };
})();

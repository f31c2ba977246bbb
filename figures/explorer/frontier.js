/* The third panel: which networks train, and the reader's own among them.

   #fx-maps holds a list of maps {network, unit, activation, slope, bias, width, seeds, guessing, trained, marks,
   depths, variances, accuracy[depth][σ_w²], theory: {depths, variances, shares[depth][σ_w²]}}, a share being
   depth/(6ξ): theory says that a network trains up to 1. */

globalThis.Fanin = globalThis.Fanin || {};

Fanin.frontier = (() => {
  "use strict";

  const T = Fanin.theory, C = Fanin.chart;
  const $ = (id) => document.getElementById(`fx-${id}`);
  const SIGMA = "σ<sub>w</sub>²";
  const BETWEEN = 8; // points of a line from column to column
  let maps = [], map = null, setting = null;

  // ------------------------------------------------------------------ what theory says

  /** By straight lines, and beyond the ends along the last of them. */
  function interpolate(xs, ys, x) {
    const found = xs.findIndex((at) => at >= x), i = Math.max(found < 0 ? xs.length - 1 : found, 1);
    return ys[i - 1] + ((ys[i] - ys[i - 1]) * (x - xs[i - 1])) / (xs[i] - xs[i - 1]);
  }

  /** Depths from 0 on, and depth/(6ξ) at them. */
  function sharesAt({ depths, variances, shares }, variance) {
    const logs = variances.map(Math.log);
    const at = shares.map((row) => Math.abs(interpolate(logs, row, Math.log(variance))));
    return [[0, ...depths], [0, ...at]];
  }

  /** depth/(6ξ). */
  const share = ({ theory }, variance, depth) => interpolate(...sharesAt(theory, variance), depth);

  /** The depth where theory says that training ends, 6ξ. */
  function end({ theory }, variance) {
    const [depths, shares] = sharesAt(theory, variance), over = shares.findIndex((value) => value > 1);
    const i = over < 0 ? depths.length - 1 : over, rise = (shares[i] - shares[i - 1]) / (depths[i] - depths[i - 1]);
    return rise > 0 ? depths[i - 1] + (1 - shares[i - 1]) / rise : Infinity;
  }

  /** σ_w² = fan_in·Var[w] that the controls imply, with He's gain for the activation of the map. */
  const varianceOf = (chosen, { slope }) =>
    Math.exp(T.logScales({ ...chosen, slope, direction: "forward" })[0]);

  // ------------------------------------------------------------------ the map

  /** Where a number stands among the columns or rows, which are evenly spaced; at the edge if outside. */
  function place(stops, value) {
    const at = interpolate(stops.map(Math.log), stops.map((_, i) => i), Math.log(value));
    return Math.min(Math.max(at, -0.35), stops.length - 0.65);
  }

  /** The one or two of the stops between which a number lies. */
  function around(stops, value) {
    const at = Math.min(Math.max(place(stops, value), 0), stops.length - 1), near = Math.round(at);
    return Math.abs(at - near) < 1e-6 ? [near] : [Math.floor(at), Math.ceil(at)];
  }

  function show(chosen = setting) {
    setting = chosen;
    if (!map || !setting) return;
    const { variances, depths, accuracy, marks } = map, variance = varianceOf(setting, map);
    const narrow = $("map-chart").clientWidth < 520, top = depths.length;
    const names = Object.entries(marks).map(([name, at]) => ({ x: place(variances, at), y: top - 0.2,
      text: nameOf(name), last: at === variances.at(-1) }));
    const cells = accuracy.flatMap((row, j) => row.map((value, i) => ({ x: i, y: j, value })));
    const line = Array.from({ length: BETWEEN * (variances.length - 1) + 1 }, (_, k) => k / BETWEEN);
    const columns = variances.map((_, i) => i);
    const ends = line.map((at) => end(map, Math.exp(interpolate(columns, variances.map(Math.log), at))));
    const heights = ends.map((depth) => (depth < depths[0] / 2 ? NaN
      : interpolate(depths.map(Math.log), depths.map((_, j) => j), Math.log(Math.min(depth, 1e4)))));
    const you = { x: [place(variances, variance)], y: [place(depths, setting.depth)] };
    C.draw($("map-chart"), {
      height: narrow ? 280 : 380, right: 24, label: `${describe(variance)} All numbers are in the table below.`,
      x: { low: -0.5, high: variances.length - 0.5, title: "σ_w² = fan in · Var[w]", ticks: variances
        .map((at, i) => ({ at: i, label: narrow && i % 2 ? "" : String(+at.toPrecision(3)) })) },
      y: { low: -0.5, high: top + 0.2, ticks: depths.map((depth, j) => ({ at: j, label: String(depth) })) },
      series: [
        { kind: "cells", color: "blue", y: [], cells: cells.map(({ x, y, value }) => (
          { x, y, shade: 0.6 * Math.max(value - map.guessing, 0) / (100 - map.guessing) })) },
        { kind: "line", color: "paper", className: "fx-halo", x: line, y: heights },
        { kind: "line", name: "theory", color: "vermilion", className: "fx-bold", x: line, y: heights },
        { kind: "cells", y: [], cells: [...cells.map(({ x, y, value }) => ({ x, y, text: value.toFixed(0),
          className: [value > map.trained ? "fx-trained" : "", narrow && value >= 99.5 ? "fx-tight" : ""].join(" "),
        })), ...names] },
        { kind: "rule", x: you.x[0], className: "fx-reading" },
        { kind: "rule", y: you.y[0], className: "fx-reading" },
        { kind: "points", marker: "o", className: "fx-you", size: 2.4, ...you },
      ],
    });
    $("scale-3-value").textContent = figures(variance);
    $("scale-3").setAttribute("aria-valuetext", figures(variance));
    $("map-sentence").innerHTML = sentence(variance);
    $("map-about").textContent = about();
    if ($("map-numbers").open) numbers();
  }

  const nameOf = (initializer) => Fanin.explorer.SHORT[initializer] || initializer;
  const figures = (value) => Fanin.explorer.figures(Math.log10(value));
  const stop = (value) => String(+value.toPrecision(3));

  function about() {
    const { unit, width, seeds, guessing, trained, bias } = map;
    return `Width ${width}, ${seeds} ${seeds === 1 ? "seed" : "seeds"}, variance of the biases ${bias}; ` +
      `${guessing} % is guessing, above ${trained} % a network counts as trained. ` +
      (unit === "steps" ? "Depth is the steps to remember a symbol, and fan in the width of the state." : "");
  }

  function describe(variance) {
    return `Map of trained accuracy, ${map.network}, ${map.activation}, σ_w² across and ${map.unit} upwards. Your ` +
      `network: σ_w² ${figures(variance)}, ${setting.depth} ${map.unit}.`;
  }

  /** What theory says of the reader's network, and what its neighbors on the map reached. */
  function sentence(variance) {
    const { variances, depths, accuracy, theory, unit } = map, last = depths.at(-1);
    // where ξ depends on the depth, theory's numbers end with the map
    const known = theory.depths.length > 1 ? Math.min(setting.depth, last) : setting.depth;
    const ended = known < setting.depth ? ` with ${known} ${unit}, where theory’s numbers end` : "";
    const of6 = share(map, variance, known), counted = known === 1 ? unit.slice(0, -1) : unit;
    const says = of6 <= 1 ? "trains" : "does not train";
    const times = of6 < 1e-5 ? "for its ξ is infinite" : `for ${known} ${counted} are ` +
      `<strong>${figures(of6)}</strong> times its 6ξ` +
      (theory.depths.length > 1 ? "" : `, ${figures(known / of6)} ${unit}`);
    const columns = around(variances, variance), rows = around(depths, setting.depth);
    const found = rows.flatMap((j) => columns.map((i) => accuracy[j][i]));
    const span = (values) => [...new Set([values[0], values.at(-1)])].join("–");
    const [low, high] = [Math.min(...found), Math.max(...found)].map((value) => value.toFixed(0));
    const outside = [[depths, setting.depth], [variances, variance]]
      .some(([stops, value]) => value > stops.at(-1) * 1.000001 || value < stops[0] * 0.999999);
    return `${nameOf(setting.initializer)}: ${SIGMA} = <strong>${figures(variance)}</strong>, ${setting.depth} ` +
      `${setting.depth === 1 ? unit.slice(0, -1) : unit}. Theory says that this network <strong>${says}</strong>` +
      `${ended}, ${times}. The nearest of the map (${SIGMA} ${span(columns.map((i) => stop(variances[i])))}, ` +
      `${span(rows.map((j) => depths[j]))} ${unit}) reached <strong>${low === high ? low : `${low} to ${high}`}\u00a0%</strong>.` +
      (outside ? " It lies outside of the map: the dot stands at its edge." : "");
  }

  function numbers() {
    const { variances, depths, accuracy, unit, theory } = map, last = depths.at(-1);
    const table = $("map-numbers").querySelector("table"), body = document.createElement("tbody");
    const rows = [[`${unit} \\ σ_w²`, ...variances.map(stop)],
      ...depths.map((depth, j) => [depth, ...accuracy[j].map((value) => value.toFixed(0))]),
      ["6ξ", ...variances.map((value) => {
        const depth = end(map, value);
        return theory.depths.length > 1 && depth > last ? `> ${last}` : depth > 1e4 ? "∞" : figures(depth);
      })]];
    table.replaceChildren(body);
    rows.forEach((cells, j) => {
      const row = (j ? body : table.createTHead()).insertRow();
      cells.forEach((text, i) => {
        const cell = document.createElement(j && i ? "td" : "th");
        if (!j || !i) cell.scope = j ? "row" : "col";
        cell.textContent = text;
        row.append(cell);
      });
    });
  }

  // ------------------------------------------------------------------ the choice of a map

  const unique = (values) => [...new Set(values)];

  function choose() {
    const [network, activation] = [$("map-network").value, $("map-activation").value];
    map = maps.find((one) => one.network === network && one.activation === activation);
    show();
  }

  function begin() {
    maps = JSON.parse($("maps").textContent.trim() || "[]");
    $("no-map").hidden = maps.length > 0;
    for (const part of ["map-grid", "map-notes"]) $(part).hidden = !maps.length;
    if (!maps.length) return;
    for (const name of ["network", "activation"]) {
      for (const value of unique(maps.map((one) => one[name]))) $(`map-${name}`).add(new Option(value, value));
      $(`map-${name}`).addEventListener("change", choose);
    }
    if (maps.some(({ activation }) => activation === "ReLU")) $("map-activation").value = "ReLU"; // as above
    $("map-numbers").addEventListener("toggle", () => show());
    choose();
  }

  return { begin, show, share, end, interpolate, varianceOf };
})();

/* The third panel: records of trained networks, filtered by clicking.

   #fx-data holds {quantities: {key: name}, presets: [{name, question, common}], curves: [curve]}, a
   curve being {preset, initializer, activation, depth, variant, published, seeds: [{seed, status, epoch: [],
   test_accuracy: [], …}]}; null stands for a number that was not measured. */

globalThis.Fanin = globalThis.Fanin || {};

Fanin.study = (() => {
  "use strict";

  const C = Fanin.chart;
  const $ = (id) => document.getElementById(`fx-${id}`);
  const DASHES = ["", "6 4", "2 3", "8 3 2 3", "10 3", "6 2 2 2 2 2", "2 6", "12 3 2 3 2 3"];
  const FIELDS = [["initializer", "Initializer"], ["activation", "Activation"], ["depth", "Layers"],
    ["variant", "Variant"]];

  let data = null;
  const state = { preset: null, quantity: "test_accuracy", hidden: new Set(), front: null };

  const unique = (values) => [...new Set(values)];
  const ofPreset = () => data.curves.filter((curve) => curve.preset === state.preset);
  const key = (field, value) => `${field} ${value}`;
  const shown = () => ofPreset().filter((curve) =>
    FIELDS.every(([field]) => !state.hidden.has(key(field, curve[field]))));
  const label = (curve) => [curve.initializer, curve.activation, `${curve.depth}`, curve.variant]
    .filter(Boolean).join(" · ");

  // ------------------------------------------------------------------ numbers

  /** Epochs and the mean over the seeds that did not diverge (over all, where all did). */
  function mean(curve) {
    const completed = curve.seeds.filter((seed) => seed.status !== "diverged");
    const used = completed.length ? completed : curve.seeds;
    const epochs = unique(used.flatMap((seed) => seed.epoch)).sort((a, b) => a - b);
    const values = epochs.map((epoch) => {
      const there = used.map((seed) => seed[state.quantity][seed.epoch.indexOf(epoch)]).filter(Number.isFinite);
      return there.length ? there.reduce((a, b) => a + b) / there.length : NaN;
    });
    return { epochs, values };
  }

  /** The last value of every seed that did not diverge. */
  function finals(curve) {
    return curve.seeds.filter((seed) => seed.status !== "diverged")
      .map((seed) => seed[state.quantity].at(-1)).filter(Number.isFinite);
  }

  function summary(curve) {
    const values = finals(curve), n = values.length;
    const average = n ? values.reduce((a, b) => a + b) / n : NaN;
    const std = n > 1 ? Math.sqrt(values.reduce((sum, v) => sum + (v - average) ** 2, 0) / (n - 1)) : NaN;
    return { average, std, diverged: curve.seeds.filter((seed) => seed.status === "diverged").length };
  }

  const format = (value) => (Number.isFinite(value)
    ? (state.quantity === "test_accuracy" ? value.toFixed(2) : value.toPrecision(4)).replace("-", "−") : "–");

  // ------------------------------------------------------------------ filters

  function chips(title, values, pressed, onClick, name = String) {
    const set = document.createElement("fieldset");
    set.className = "fx-chips";
    const legend = document.createElement("legend");
    legend.textContent = title;
    set.append(legend, ...values.map((value) => {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.textContent = name(value);
      chip.setAttribute("aria-pressed", pressed(value));
      chip.addEventListener("click", () => onClick(value));
      return chip;
    }));
    return set;
  }

  function choice(id, title, entries, value, onChange) {
    const field = document.createElement("div");
    field.className = "fx-field";
    const about = document.createElement("label");
    about.htmlFor = id;
    about.textContent = title;
    const select = document.createElement("select");
    select.id = id;
    for (const [key, name] of entries) select.add(new Option(name, key));
    select.value = value;
    select.addEventListener("change", () => onChange(select.value));
    field.append(about, select);
    return field;
  }

  function filters() {
    const held = document.activeElement?.closest("#fx-filters fieldset");
    const place = held ? [[...$("filters").children].indexOf(held),
      [...held.children].indexOf(document.activeElement)] : null;
    const parts = [];
    if (data.presets.length > 1) {
      const names = data.presets.map(({ name }) => [name, name]);
      parts.push(choice("fx-preset", "Study", names, state.preset, (name) => {
        Object.assign(state, { preset: name, front: null });
        state.hidden.clear();
        filters();
        show();
        $("preset").focus();
      }));
    }
    const { question, common } = data.presets.find(({ name }) => name === state.preset);
    const about = [question, common.length ? `All here: ${common.join(", ")}.` : ""].filter(Boolean).join(" ");
    if (about) {
      const hint = document.createElement("p");
      hint.className = "fx-hint";
      hint.textContent = about;
      parts.push(hint);
    }
    const quantities = Object.entries(data.quantities);
    parts.push(choice("fx-quantity", "Against epoch", quantities, state.quantity, (name) => {
      state.quantity = name;
      show();
    }));
    for (const [field, title] of FIELDS) {
      const values = unique(ofPreset().map((curve) => curve[field]));
      if (field === "depth") values.sort((a, b) => a - b);
      if (values.length < 2) continue;
      parts.push(chips(title, values, (value) => !state.hidden.has(key(field, value)), (value) => {
        const name = key(field, value);
        if (!state.hidden.delete(name)) state.hidden.add(name);
        filters();
        show();
      }, (value) => value || "plain"));
    }
    $("filters").replaceChildren(...parts);
    if (place) $("filters").children[place[0]].children[place[1]].focus(); // the chip that was clicked
  }

  // ------------------------------------------------------------------ chart and table

  /** How a curve looks: color by initializer, shade and marker by depth, dash by the rest. */
  function look(curve) {
    const rest = (one) => key(one.activation, one.variant), kinds = unique(ofPreset().map(rest));
    const depths = unique(ofPreset().map((one) => one.depth)).sort((a, b) => a - b);
    return {
      color: C.initializerLook(curve.initializer).color,
      dash: DASHES[kinds.indexOf(rest(curve)) % DASHES.length],
      ...C.depthLooks(depths).get(curve.depth),
    };
  }

  function show() {
    if (!data) return;
    const curves = shown();
    if (!curves.some((curve) => label(curve) === state.front)) state.front = null;
    const series = curves.flatMap(lines);
    const epochs = series.flatMap((one) => one.x), last = Math.max(1, ...epochs);
    const first = Math.min(1, ...epochs);
    const [low, high] = C.extent(series.map((one) => one.y), state.quantity === "test_accuracy" ? 10 : 1e-6);
    $("study-caption").textContent = `${data.quantities[state.quantity]} against epoch`;
    C.draw($("study-chart"), {
      height: $("study-chart").clientWidth < 520 ? 250 : 400, right: 18,
      x: { low: first, high: last, ticks: C.roundTicks(first, last, 10, true), title: "epoch" },
      y: { low, high, ticks: C.roundTicks(low, high, 6) },
      series, label: `${data.quantities[state.quantity]} against epoch of ${curves.length} networks; ` +
        "the table below has the final numbers",
    });
    $("study-sentence").textContent = curves.length
      ? `${curves.length} of ${ofPreset().length} networks shown.`
      : "Every network is hidden: click a name again.";
    table(curves);
  }

  function lines(curve) {
    const { color, shade, dash, marker } = look(curve), { epochs, values } = mean(curve);
    const faded = state.front && state.front !== label(curve) ? "fx-faded" : "";
    const list = curve.seeds.length < 2 ? [] : curve.seeds.map((seed) => ({
      kind: "line", color, shade, className: `fx-seed ${faded}`, x: seed.epoch,
      y: seed[state.quantity].map((value) => value ?? NaN),
    }));
    list.push({ kind: "line", name: label(curve), color, shade, dash, marker, most: 20,
      className: `${state.front === label(curve) ? "fx-bold" : ""} ${faded}`, x: epochs, y: values });
    if (state.quantity === "test_accuracy" && curve.published !== null && epochs.length) {
      list.push({ kind: "points", color, shade, marker: "o", hollow: true, className: faded, x: [epochs.at(-1)],
        y: [curve.published] });
    }
    return list;
  }

  function table(curves) {
    const accuracy = state.quantity === "test_accuracy";
    const reported = accuracy && ofPreset().some((curve) => curve.published !== null);
    const diverged = curves.some((curve) => summary(curve).diverged);
    const heads = ["network", accuracy ? "final, % ± std" : "final ± std", "seeds",
      ...(diverged ? ["diverged"] : []), ...(reported ? ["report"] : [])];
    const made = document.createElement("thead").insertRow();
    for (const text of heads) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = text;
      made.append(cell);
    }
    const body = document.createElement("tbody");
    for (const curve of curves) {
      const { average, std, diverged: lost } = summary(curve), row = body.insertRow();
      const name = document.createElement("th");
      name.scope = "row";
      name.append(rowButton(curve));
      row.append(name);
      const final = Number.isFinite(std) ? `${format(average)} ± ${format(std)}` : format(average);
      const cells = [final, curve.seeds.length, ...(diverged ? [lost] : []),
        ...(reported ? [format(curve.published ?? NaN)] : [])];
      for (const text of cells) row.insertCell().textContent = text;
    }
    const held = [...$("results").querySelectorAll("tbody button")].indexOf(document.activeElement);
    $("results").replaceChildren(made.parentNode, body);
    if (held >= 0) $("results").querySelectorAll("tbody button")[held]?.focus();
  }

  function rowButton(curve) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", state.front === label(curve));
    button.append(C.swatch({ kind: "line", ...look(curve) }), label(curve));
    button.addEventListener("click", () => {
      state.front = state.front === label(curve) ? null : label(curve);
      show();
    });
    return button;
  }

  function begin() {
    const text = $("data").textContent.trim();
    data = text ? JSON.parse(text) : null;
    if (data && !data.curves.length) data = null;
    $("no-study").hidden = Boolean(data);
    for (const part of ["study-lead", "study-grid", "study-notes"]) $(part).hidden = !data;
    if (!data) return;
    state.preset = data.presets[0].name;
    if (!(state.quantity in data.quantities)) state.quantity = Object.keys(data.quantities)[0];
    $("filters").addEventListener("submit", (event) => event.preventDefault());
    filters();
  }

  return { begin, show };
})();

Fanin.study.begin();
Fanin.explorer.begin();

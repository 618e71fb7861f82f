"use strict";
// Draws the page's charts from the JSON beside it. Every text in that JSON was chosen by somebody: `plain` is its only
// way into a chart, and `textContent` its only way into the page.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const ARRAYS = { f4: Float32Array, f8: Float64Array, i4: Int32Array, u1: Uint8Array, u2: Uint16Array, u4: Uint32Array };
  const FONT = 'system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif';
  const BLUES = [[247, 251, 255], [198, 219, 239], [107, 174, 214], [33, 113, 181], [8, 48, 107]];
  const NIGHTS = [[32, 36, 41], [22, 52, 76], [22, 74, 112], [24, 96, 148], [30, 118, 184]];
  const isCoarse = matchMedia("(pointer: coarse)").matches;
  const isDark = matchMedia("(prefers-color-scheme: dark)");

  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const short = (text, limit) => (text.length > limit ? `${text.slice(0, limit - 8)}…${text.slice(-7)}` : text);
  const count = (number) => number.toLocaleString("en");
  const percent = (share) => `${(100 * share).toFixed(2)} %`;

  // Lines of at most so many letters, broken where a text lists something: plotly shows no label taller than its chart.
  function wrapped(text, width) {
    const lines = [""];
    for (const part of text.split(/(?<=[,;:] )/)) {
      if (lines.at(-1) && lines.at(-1).length + part.trim().length > width) lines.push("");
      lines[lines.length - 1] += part;
    }
    return lines.map((line) => line.trim());
  }

  function unpack({ type, bytes }) {
    const raw = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
    return new ARRAYS[type](raw.buffer);
  }

  function look() {
    const css = getComputedStyle(document.documentElement);
    const [ground, ink, muted, line] = ["--ground", "--ink", "--muted", "--line"].map((name) => css.getPropertyValue(name).trim());
    const onDark = isDark.matches && !isPrinting;
    const [colour, dot] = ["colour", "dot"].map((of) => (arm) => (data.arms[arm][of] === "#000000" ? ink : data.arms[arm][of]));
    const scale = (onDark ? NIGHTS : BLUES).map((rgb, at, all) => [at / (all.length - 1), `rgb(${rgb})`]);
    return { ground, ink, muted, line, colour, dot, scale, onDark };
  }

  function faded(colour, alpha) {
    const hex = /^#(..)(..)(..)$/.exec(colour);
    return hex ? `rgba(${hex.slice(1).map((pair) => parseInt(pair, 16))},${alpha})` : colour;
  }

  function layoutOf({ ink, muted, line }, height) {
    const axis = { gridcolor: line, linecolor: muted, tickcolor: muted, zeroline: false, automargin: true };
    return {
      height,
      font: { family: FONT, size: 12, color: ink },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 56, r: 12, t: 10, b: 40 },
      hovermode: "closest",
      hoverlabel: { align: "left", namelength: -1 },
      showlegend: false,
      dragmode: false,
      modebar: { bgcolor: "rgba(0,0,0,0)", color: muted, activecolor: ink },
      xaxis: { ...axis },
      yaxis: { ...axis },
    };
  }

  const CONFIG = { responsive: true, displaylogo: false, doubleClick: false, displayModeBar: false };

  // ---- plots: drawn when they come into sight, again when something has changed ----

  const plots = new Map(); // element -> how to draw it, and whether it is drawn, stale, in sight
  let isPrinting = false;

  function draw(element) {
    const plot = plots.get(element);
    const paper = element.closest(".charts") ? 330 : 660; // pixels: a column, or all, of a page of A4
    const { traces, layout } = plot.figure(isPrinting ? paper : element.clientWidth);
    Plotly.react(element, traces, { ...layout, width: isPrinting ? paper : undefined }, plot.config);
    if (!plot.isDrawn) plot.afterFirst?.(element);
    Object.assign(plot, { isDrawn: true, isStale: false });
  }

  const sight = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        const plot = plots.get(target);
        plot.isSeen = isIntersecting;
        if (isIntersecting && plot.isStale) draw(target);
      }
    },
    { rootMargin: "300px 0px" },
  );

  function add(element, figure, config = CONFIG, afterFirst = undefined) {
    plots.set(element, { figure, config, afterFirst, isStale: true, isSeen: false, isDrawn: false });
    sight.observe(element);
  }

  function redraw(elements = plots.keys()) {
    for (const element of elements) {
      const plot = plots.get(element);
      plot.isStale = true;
      if (plot.isSeen || isPrinting) draw(element);
    }
  }

  isDark.addEventListener("change", () => redraw());
  addEventListener("beforeprint", () => {
    isPrinting = true;
    document.documentElement.classList.add("printing");
    redraw();
  });
  addEventListener("afterprint", () => {
    isPrinting = false;
    document.documentElement.classList.remove("printing");
    redraw();
  });

  // ---- charts over the updates ----

  const shown = {
    arms: new Set(data.arms.keys()),
    singles: true,
    decays: true,
    range: null,
    dragmode: isCoarse ? false : "zoom", // a finger that drags means to scroll
  };
  const charts = new Map(); // element -> chart
  const withDecays = [...data.decays.keys()].filter((arm) => data.decays[arm].steps.length);
  const rowOf = new Map(withDecays.map((arm, row) => [arm, row]));

  function labelOf(index) {
    const run = data.runs[index];
    return `${plain(data.arms[run.arm].name)}, seed ${run.seed}`;
  }

  function unpackLines(lines) {
    return lines && { steps: unpack(lines.steps), values: unpack(lines.values) };
  }

  function unpackChart(chart) {
    const arms = chart.arms.map((arm) => {
      const band = arm.band && Object.fromEntries(Object.entries(arm.band).map(([name, of]) => [name, unpack(of)]));
      const labels = arm.runs.flatMap((run, index) => Array(arm.lengths[index]).fill(labelOf(run)));
      return { ...arm, band, labels, lines: unpackLines(arm.lines), raw: unpackLines(arm.raw), edges: unpackLines(arm.edges) };
    });
    return { ...chart, arms };
  }

  // On a logarithmic axis a zero has no place: the line falls out of the picture instead of breaking off.
  const placed = (chart, values) =>
    chart.isLog ? Float64Array.from(values, (value) => (value <= 0 ? chart.low * 1e-9 : value)) : values;

  function tracesOf(chart, theme) {
    const behind = [], bands = [], singles = [], medians = [], marks = [];
    for (const arm of chart.arms.filter(({ arm }) => shown.arms.has(arm))) {
      const colour = theme.colour(arm.arm), { dash, name } = data.arms[arm.arm];
      const base = { type: "scatter", mode: "lines", connectgaps: false };
      const of = (kind) => ({ ...base, meta: { arm: arm.arm, kind } });
      const hover = "%{text}<br>update %{x:,}: %{customdata:.4~g}<extra></extra>";
      if (arm.raw) {
        const { steps, values } = arm.raw;
        const line = { color: colour, width: 0.7 };
        behind.push({ ...of("raw"), x: steps, y: placed(chart, values), line, opacity: 0.35, hoverinfo: "skip" });
      }
      if (arm.edges) {
        const { steps, values } = arm.edges;
        const line = { color: colour, width: 1.2, dash: "dot" };
        const hovertemplate = `${plain(name)}: edge of stability<br>update %{x:,}: %{customdata:.4~g}<extra></extra>`;
        behind.push({ ...of("edge"), x: steps, y: placed(chart, values), customdata: values, line, hovertemplate });
      }
      if (arm.band) {
        const { steps, low, median, high } = arm.band;
        const area = { x: [...steps, ...[...steps].reverse()], y: placed(chart, [...high, ...[...low].reverse()]) };
        const fill = { fill: "toself", fillcolor: faded(colour, 0.2), line: { width: 0 }, hoverinfo: "skip" };
        bands.push({ ...of("band"), ...area, ...fill });
        medians.push({
          ...of("median"),
          x: steps,
          y: placed(chart, median),
          customdata: median,
          text: Array(steps.length).fill(`${plain(name)}, median of the seeds`),
          hovertemplate: hover,
          line: { color: colour, width: 2.6, dash },
          mode: steps.length === 1 ? "markers" : "lines",
          marker: { color: colour, size: 9 },
          cliponaxis: false, // half of a mark at the last update would be cut off
        });
      }
      if (shown.singles || !(arm.band?.steps.length > 1)) {
        const { steps, values } = arm.lines;
        singles.push({
          ...of("single"),
          x: steps,
          y: placed(chart, values),
          customdata: values,
          text: arm.labels,
          hovertemplate: hover,
          // solid behind a median: to dash a thousand lines takes longer than all the rest
          line: { color: colour, width: arm.band ? 0.9 : 1.8, dash: arm.band ? "solid" : dash },
          marker: { color: colour, size: arm.lengths.includes(2) ? 9 : 5 },
          cliponaxis: false,
          opacity: arm.band ? 0.4 : 1,
          mode: chart.hasMarks || arm.lengths.includes(2) ? "lines+markers" : "lines",
        });
      }
      if (arm.ends.length) {
        const y = arm.ends.map(([, value]) => Math.min(Math.max(value, chart.low), chart.high));
        const text = Array(y.length).fill(`${plain(name)}: diverged`);
        const marker = { symbol: "x-thin", size: 9, line: { color: colour, width: 2.5 } };
        const cross = { x: arm.ends.map(([step]) => step), y, text, marker, mode: "markers", cliponaxis: false };
        marks.push({ ...of("diverged"), ...cross, hovertemplate: "%{text}<br>update %{x:,}<extra></extra>" });
      }
    }
    return [...behind, ...bands, ...singles, ...medians, ...marks, ...(shown.decays ? decayTraces(theme) : [])];
  }

  function decayTraces(theme) {
    return withDecays.filter((arm) => shown.arms.has(arm)).map((arm) => {
      const { steps, moved, numbers, texts } = data.decays[arm];
      const numSeeds = data.runs.filter((run) => run.arm === arm).length;
      const said = (at) => {
        const more = numbers[at] - texts[at].length;
        const kind = `${moved[at] ? "decay" : "decay at the floor"}${numSeeds > 1 ? ` in ${numbers[at]} of ${numSeeds} seeds` : ""}`;
        const evidence = texts[at].flatMap((text) => wrapped(text, 48).map(plain));
        const lines = evidence.length > 14 ? [...evidence.slice(0, 13), "…"] : evidence;
        return [`${plain(data.arms[arm].name)}: ${kind}`, ...lines, ...(more ? [`and ${more} more`] : [])].join("<br>");
      };
      return {
        type: "scatter",
        meta: { arm, kind: "decay" },
        mode: "markers",
        yaxis: "y2",
        x: steps,
        y: steps.map(() => rowOf.get(arm)),
        marker: {
          symbol: "line-ns",
          size: moved.map((did) => (did ? 10 : 4)),
          line: { color: theme.colour(arm), width: 1.6 },
          opacity: numbers.map((number) => 0.35 + (0.65 * number) / numSeeds),
        },
        cliponaxis: false,
        text: steps.map((_, at) => said(at)),
        hovertemplate: "update %{x:,}<br>%{text}<extra></extra>",
      };
    });
  }

  // Powers of ten, or where there are hardly any, whole numbers: plotly itself would write 5 for 0.5.
  function logTicks(low, high) {
    if (Math.floor(Math.log10(high)) - Math.ceil(Math.log10(low)) >= 1) return { dtick: 1 }; // two powers at least
    const values = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      for (const digit of high / low > 4 ? [1, 2, 5] : [1, 2, 3, 4, 5, 6, 7, 8, 9]) {
        const value = Number(`${digit}e${power}`);
        if (value >= low && value <= high) values.push(value);
      }
    }
    if (values.length < 2) return {}; // too narrow for any but plotly's own
    return { tickvals: values, ticktext: values.map((value) => String(value)) };
  }

  function chartFigure(chart) {
    const theme = look();
    const withRows = rowOf.size > 0 && shown.decays;
    const rows = withRows ? Math.min(11 * rowOf.size, 90) + 4 : 0;
    const layout = { ...layoutOf(theme, 310 + rows), dragmode: shown.dragmode };
    layout.margin.t = 30; // room for the buttons, which would otherwise lie over the last decays
    const top = 1 - rows / (layout.height - 70);
    Object.assign(layout.xaxis, {
      range: shown.range ?? [0, chart.end],
      minallowed: 0,
      maxallowed: chart.end,
      title: { text: "update" },
      tickformat: ",~r",
      nticks: 6,
      autorange: false,
    });
    Object.assign(layout.yaxis, {
      type: chart.isLog ? "log" : "linear",
      range: [chart.low, chart.high].map((end) => (chart.isLog ? Math.log10(end) : end)),
      domain: [0, top],
      title: { text: plain(chart.label), standoff: 6 },
      exponentformat: "power",
      autorange: false,
      fixedrange: true, // charts of a section share their scale
      nticks: 6,
      ...(chart.isLog ? logTicks(chart.low, chart.high) : {}),
      ...(chart.isShare ? { tickformat: chart.high - chart.low < 0.1 ? ".1%" : ".0%" } : {}),
    });
    if (withRows) {
      const range = [rowOf.size - 0.4, -0.6];
      layout.yaxis2 = { domain: [top + 0.015, 1], range, visible: false, fixedrange: true, anchor: "x" };
    }
    return { traces: tracesOf(chart, theme), layout };
  }

  const whole = { name: "whole", title: "Whole range", icon: Plotly.Icons.home, click: () => setRange(null) };
  const CHART_CONFIG = { ...CONFIG, displayModeBar: isCoarse || "hover", modeBarButtons: [["zoom2d", "pan2d", whole]] };
  let isLinking = false;

  function setRange(range, except) {
    shown.range = range;
    isLinking = true;
    redraw([...charts.keys()].filter((element) => element !== except));
    isLinking = false;
  }

  function followZoom(element) {
    const { end } = charts.get(element);
    element.on("plotly_relayout", (change) => {
      if (isLinking) return;
      if ("dragmode" in change) {
        shown.dragmode = change.dragmode;
        redraw([...charts.keys()].filter((other) => other !== element));
      }
      const range = change["xaxis.range"] ?? [change["xaxis.range[0]"], change["xaxis.range[1]"]];
      if (range[0] === undefined) return;
      const isWhole = range[0] === 0 && range[1] === end;
      setRange(isWhole ? null : [...range], element);
    });
    element.on("plotly_doubleclick", () => setRange(null));
  }

  function onKey(event, end) {
    const [low, high] = shown.range ?? [0, end];
    const width = high - low;
    const moves = {
      ArrowLeft: () => [low - 0.2 * width, high - 0.2 * width],
      ArrowRight: () => [low + 0.2 * width, high + 0.2 * width],
      "+": () => [low + 0.2 * width, high - 0.2 * width],
      "=": () => [low + 0.2 * width, high - 0.2 * width],
      "-": () => [low - width / 3, high + width / 3],
      0: () => [0, end],
    };
    if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const [wantedLow, wantedHigh] = moves[event.key]();
    const newWidth = Math.min(wantedHigh - wantedLow, end);
    const newLow = Math.min(Math.max(wantedLow, 0), end - newWidth);
    setRange(newWidth === end ? null : [newLow, newLow + newWidth]);
  }

  for (const element of document.querySelectorAll("[data-chart]")) {
    const chart = data.charts[element.dataset.chart];
    let unpacked;
    charts.set(element, chart);
    add(element, () => chartFigure((unpacked ??= unpackChart(chart))), CHART_CONFIG, followZoom);
    element.addEventListener("keydown", (event) => onKey(event, chart.end));
  }

  // ---- the controls of those charts ----

  function swatch(arm) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    const dash = arm.dash === "solid" ? "none" : arm.dash.replace(/px/g, "");
    const ends = { x1: 0, y1: 5, x2: 30, y2: 5, "stroke-width": 3, "stroke-dasharray": dash };
    for (const [name, value] of Object.entries(ends)) line.setAttribute(name, value);
    line.setAttribute("stroke", arm.colour === "#000000" ? "currentColor" : arm.colour);
    svg.setAttribute("viewBox", "0 0 30 10");
    svg.setAttribute("aria-hidden", "true");
    svg.append(line);
    return svg;
  }

  for (const box of document.querySelectorAll("input[data-arm]")) {
    const arm = Number(box.dataset.arm);
    box.after(swatch(data.arms[arm]));
    box.addEventListener("change", () => {
      if (box.checked) shown.arms.add(arm);
      else shown.arms.delete(arm);
      redraw(charts.keys());
    });
  }
  for (const box of document.querySelectorAll("input[data-show]")) {
    box.addEventListener("change", () => {
      shown[box.dataset.show] = box.checked;
      redraw(charts.keys());
    });
  }
  document.getElementById("reset")?.addEventListener("click", () => setRange(null));

  // ---- a dot for every seed: accuracy of each arm, differences of each pair ----

  function dotsFigure({ range, label, rows }, tickformat, written) {
    const theme = look();
    const lines = rows.reduce((sum, row) => sum + row.label.split("\n").length, 0);
    const layout = layoutOf(theme, 70 + 32 * rows.length + 14 * lines);
    const traces = rows.flatMap((arm, index) => {
      const dots = {
        type: "scatter",
        mode: "markers",
        x: arm.values,
        y: arm.heights.map((height) => index + height),
        marker: {
          color: arm.arm === null ? theme.ink : theme.dot(arm.arm),
          size: 9,
          opacity: 1, // plotly's own is 0.7 where dots have a line
          line: { color: theme.ground, width: 1 },
        },
        cliponaxis: false,
        text: arm.seeds.map((seed, at) => `${plain(arm.name)}, seed ${seed}: ${written(arm.values[at])}`),
        hovertemplate: "%{text}<extra></extra>",
      };
      if (arm.values.length < 2) return [dots];
      const [low, high] = arm.interval ?? [arm.mean, arm.mean];
      const interval = arm.interval ? `<br>95 % interval ${written(low)} to ${written(high)}` : "";
      const mean = {
        type: "scatter",
        mode: "markers",
        x: [arm.mean],
        y: [index],
        marker: { symbol: "line-ns", size: 18, line: { color: theme.ink, width: 3 } },
        error_x: { symmetric: false, array: [high - arm.mean], arrayminus: [arm.mean - low], color: theme.ink, width: 0 },
        text: [`${plain(arm.name)}: mean ${written(arm.mean)} (n = ${arm.values.length})${interval}`],
        hovertemplate: "%{text}<extra></extra>",
      };
      return [dots, mean];
    });
    Object.assign(layout.xaxis, {
      range,
      tickformat,
      nticks: 6,
      title: { text: plain(label) },
    });
    Object.assign(layout.yaxis, {
      tickvals: [...rows.keys()],
      ticktext: rows.map((row) => plain(row.label).replaceAll("\n", "<br>")),
      range: [rows.length - 0.5, -0.5],
      fixedrange: true,
      showgrid: false,
    });
    return { traces, layout };
  }

  const accuracy = document.getElementById("accuracy-by-arm");
  if (accuracy) add(accuracy, () => dotsFigure(data.accuracy, ".1~%", percent));

  const signed = (points) => `${points < 0 ? "-" : "+"}${Math.abs(points).toFixed(2)}`;
  const differences = document.getElementById("differences-by-pair");
  if (differences) {
    add(differences, () => {
      // plotly adds ticks up, so that zero may be 1e-17; and it spoils a format that begins with a sign, hence the "0>"
      const { traces, layout } = dotsFigure(data.differences, "0>+.4~f", signed);
      layout.xaxis.labelalias = { "+0": "0", "\u22120": "0" };
      const { muted } = look();
      layout.shapes = [{ type: "line", x0: 0, x1: 0, yref: "paper", y0: 0, y1: 1, line: { color: muted, width: 1 } }];
      return { traces, layout };
    });
  }

  // ---- confusion matrices ----

  const select = document.getElementById("matrix-of");
  if (!select) return;
  const slider = document.getElementById("matrix-at"), said = document.getElementById("matrix-said");
  const [matrix, classes] = ["matrix", "classes"].map((id) => document.getElementById(id));
  const unpackedCounts = new Map();

  function chosen() {
    const of = data.matrices[select.value];
    if (!unpackedCounts.has(of)) unpackedCounts.set(of, unpack(of.counts));
    const size = of.classes.length, counts = unpackedCounts.get(of);
    const cell = (at, row, column) => counts[(at * size + row) * size + column];
    const totals = new Map(); // of each row of an evaluation, added up once
    const total = (at, row) => {
      const key = at * size + row;
      if (!totals.has(key)) totals.set(key, of.classes.reduce((sum, _, column) => sum + cell(at, row, column), 0));
      return totals.get(key);
    };
    return { ...of, size, cell, total, at: Number(slider.value) };
  }

  function say() {
    const { steps, endsMixed, size, cell, total, at } = chosen();
    const indices = [...Array(size).keys()];
    const right = indices.reduce((sum, row) => sum + cell(at, row, row), 0);
    const all = indices.reduce((sum, row) => sum + total(at, row), 0);
    const isMixed = endsMixed && at === steps.length - 1;
    const place = isMixed ? `last of each run, up to update ${count(steps[at])}` : `update ${count(steps[at])}`;
    const words = `${place}, evaluation ${at + 1} of ${steps.length}: ${percent(right / all)} right`;
    said.textContent = words;
    slider.setAttribute("aria-valuetext", words);
  }

  function ticks(names, width) {
    const stride = Math.ceil(names.length / 25);
    const tickvals = [...names.keys()].filter((index) => index % stride === 0);
    return { tickvals, ticktext: tickvals.map((index) => plain(short(names[index], width))) };
  }

  function matrixFigure(width) {
    const theme = look(), { classes: names, size, cell, total, at } = chosen();
    const side = Math.min(width, 560);
    const layout = layoutOf(theme, side);
    const rows = [...Array(size).keys()];
    const share = (row, column) => (total(at, row) ? cell(at, row, column) / total(at, row) : null);
    const whole = (part) => (part > 0 && part < 0.01 ? "<1" : part > 0.99 && part < 1 ? ">99" : (100 * part).toFixed(0));
    const inCell = (row, column) => {
      const part = share(row, column);
      if (part === null || size > 20 || (size > 12 && part === 0)) return "";
      const number = side > 480 && size <= 12 ? `<br>${count(cell(at, row, column))}` : "";
      return `${plain(whole(part))}%${number}`;
    };
    const said = (row, column) =>
      total(at, row)
        ? `${plain(names[row])} taken for ${plain(names[column])}: ${count(cell(at, row, column))} of ` +
          `${count(total(at, row))} (${percent(share(row, column))})`
        : `${plain(names[row])}: no examples`;
    const by = (write) => rows.map((row) => rows.map((column) => write(row, column)));
    const trace = {
      type: "heatmap",
      z: by((row, column) => (share(row, column) === null ? null : Math.sqrt(share(row, column)))),
      zmin: 0,
      zmax: 1,
      colorscale: theme.scale,
      showscale: false,
      xgap: size > 20 ? 0 : 1,
      ygap: size > 20 ? 0 : 1,
      text: by(inCell),
      texttemplate: size > 20 ? undefined : "%{text}",
      textfont: { size: side > 480 ? 11 : 8.5, ...(theme.onDark ? { color: "#fff" } : {}) },
      customdata: by(said),
      hovertemplate: "%{customdata}<extra></extra>",
    };
    const fixed = { showgrid: false, fixedrange: true, ...ticks(names, side > 480 ? 18 : 10) };
    Object.assign(layout.xaxis, fixed, { title: { text: "prediction" }, tickangle: -45 });
    Object.assign(layout.yaxis, fixed, { title: { text: "label" }, autorange: "reversed" });
    return { traces: [trace], layout };
  }

  function classesFigure(width) {
    const theme = look(), { classes: names, steps, endsMixed, size, cell, total, at } = chosen();
    const layout = layoutOf(theme, Math.min(Math.max(110 + 24 * size, 200), 700));
    const rows = [...Array(size).keys()];
    const share = (at, row) => (total(at, row) ? cell(at, row, row) / total(at, row) : null);
    const by = (write) => rows.map((row) => steps.map((_, at) => write(at, row)));
    const trace = {
      type: "heatmap",
      x: steps.map((_, at) => at),
      z: by(share),
      zmin: 0,
      zmax: 1,
      colorscale: theme.scale,
      colorbar: { tickformat: ".0%", thickness: 10, outlinewidth: 0, len: 0.9 },
      customdata: by((at, row) => {
        const right = share(at, row) === null ? "no examples" : percent(share(at, row));
        return `${plain(names[row])}, update ${count(steps[at])}: ${right}`;
      }),
      hovertemplate: "%{customdata}<extra></extra>",
    };
    const stride = Math.ceil(steps.length / Math.max(2, Math.floor(width / 90)));
    const tickvals = steps.map((_, at) => at).filter((at) => (steps.length - 1 - at) % stride === 0);
    const ticktext = tickvals.map((at) => (endsMixed && at === steps.length - 1 ? "last" : count(steps[at])));
    const fixed = { showgrid: false, fixedrange: true };
    Object.assign(layout.xaxis, fixed, { title: { text: "update of the evaluation" }, tickvals, ticktext, tickangle: 0 });
    Object.assign(layout.yaxis, fixed, ticks(names, 18), { autorange: "reversed" });
    const line = { color: theme.ink, width: 1.5 };
    const box = { type: "rect", xref: "x", yref: "paper", x0: at - 0.5, x1: at + 0.5, y0: 0, y1: 1, line };
    return { traces: [trace], layout: { ...layout, shapes: [box] } };
  }

  function choose() {
    const last = data.matrices[select.value].steps.length - 1;
    slider.max = last;
    slider.value = last;
    slider.disabled = last === 0;
    say();
  }

  select.addEventListener("change", () => {
    choose();
    redraw([matrix, classes]);
  });
  slider.addEventListener("input", () => {
    say();
    redraw([matrix, classes]);
  });
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return; // a phone's bars come and go
    width = innerWidth;
    redraw([matrix, classes]);
  });
  choose();
  add(matrix, matrixFigure);
  add(classes, classesFigure);
})();

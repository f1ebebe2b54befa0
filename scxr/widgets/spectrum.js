// The collapse spectrum: runs side by side, scrubbed through training. Everything is in the page.

const SERIES = [
  ["effective_rank", "Effective rank"],
  ["rankme", "RankMe"],
  ["std", "Standard deviation"],
  ["std_normalised", "… of unit vectors"],
  ["mean_cosine", "Mean cosine"],
  ["loss", "Training loss"],
];

function ticks(low, high, wanted = 4) {
  const rough = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((v) => v >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

function decades(low, high) {
  const [a, b] = [Math.floor(low), Math.ceil(high)];
  const every = Math.max(1, Math.ceil((b - a) / 5));
  return Array.from({ length: Math.floor((b - a) / every) + 1 }, (_, i) => a + i * every);
}
const SUPER = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
const powerOfTen = (n) => `10${[...String(n)].map((c) => SUPER[c]).join("")}`;

// One chart. `series` = [{style, points: [[x, y]...], ghost}], y already a logarithm where `log`.
function chart(title, { height, log = false, xLabel = "", onScrub }) {
  const svg = s("svg", { role: "img", height });
  const values = h("ul", { class: "scxr-values" });
  const root = h("div", { class: "scxr-chart" }, h("p", { class: "scxr-chart-title", text: title }), values, svg);
  let scale = null;
  if (onScrub) {
    svg.classList.add("scrub");
    const scrub = (event) => {
      if (event.type === "pointermove" && !event.buttons) return;
      const box = svg.getBoundingClientRect();
      onScrub(scale.inverse(event.clientX - box.left));
    };
    svg.addEventListener("pointerdown", scrub);
    svg.addEventListener("pointermove", scrub);
  }
  function draw(series, { x: [x0, x1], y: [y0, y1], cursor }) {
    const width = Math.max(120, svg.clientWidth || 300);
    const [left, right, top, bottom] = [log ? 40 : 38, 10, 8, xLabel ? 34 : 20];
    const px = (x) => left + ((x - x0) / (x1 - x0 || 1)) * (width - left - right);
    const py = (y) => height - bottom - ((y - y0) / (y1 - y0 || 1)) * (height - top - bottom);
    scale = { inverse: (p) => x0 + ((p - left) / (width - left - right)) * (x1 - x0) };
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const marks = [];
    for (const y of log ? decades(y0, y1) : ticks(y0, y1, height > 200 ? 5 : 3)) {
      if (y < y0 - 1e-9 || y > y1 + 1e-9) continue;
      marks.push(s("path", { class: "axis", d: `M${left} ${py(y)}H${width - right}` }),
        s("text", { x: left - 5, y: py(y) + 4, "text-anchor": "end", text: log ? powerOfTen(y) : short(y) }));
    }
    for (const x of ticks(x0, x1, width > 260 ? 5 : 3)) {
      marks.push(s("text", { x: px(x), y: height - bottom + 14, "text-anchor": "middle", text: short(x) }));
    }
    if (xLabel) marks.push(s("text", { x: (left + width - right) / 2, y: height - 3, "text-anchor": "middle", text: xLabel }));
    if (cursor !== undefined) marks.push(s("path", { class: "cursor", d: `M${px(cursor)} ${top}V${height - bottom}` }));
    for (const { style, points, ghost, dot } of series) {
      const d = points.map(([x, y], i) => `${i ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
      marks.push(s("path", { class: `line ${style} ${ghost ? "ghost" : ""}`, d }));
      if (dot) marks.push(s("circle", { class: `dot ${style}`, cx: px(dot[0]), cy: py(dot[1]), r: 3.5 }));
    }
    svg.replaceChildren(...marks);
  }
  return { root, svg, values, draw };
}

const short = (v) => (v === 0 ? "0" : Math.abs(v) >= 1000 ? `${+(v / 1000).toFixed(1)}k` : `${+v.toPrecision(3)}`).replace("-", "−");

// The last of `xs` that is not later than `at` (the first, where all are).
function rowAt(xs, at) {
  let row = 0;
  xs.forEach((x, i) => { if (x <= at + 1e-9) row = i; });
  return row;
}

const finite = (points) => points.filter(([, y]) => y !== null && Number.isFinite(y));

function bounds(series) {
  const ys = series.flatMap(({ points }) => points.map(([, y]) => y));
  if (!ys.length) return [0, 1];
  const [low, high] = [Math.min(...ys), Math.max(...ys)];
  const room = (high - low || Math.abs(high) || 1) * 0.08;
  return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}

function render({ model, el }) {
  const root = shell(el, "spectrum", "What the features still tell apart");
  const get = (name) => model.get(name);
  const set = watch(model, ["runs", "spectra", "chosen", "axis", "at", "centred", "relative"], redraw);
  let decoded = [null, []];

  const runBoxes = h("div", { class: "scxr-runs", role: "group", "aria-label": "Runs" });
  const time = slider({
    label: "Moment of training", format: (v) => `${get("axis")} ${+v.toFixed(2)}`,
    onInput: (at) => set({ at }),
  });
  const axis = choice({
    label: "Count in", options: [["epoch", "epochs"], ["step", "steps"]], onChange: changeAxis,
  });
  const centring = choice({
    label: "Singular values", options: [["true", "centred"], ["false", "uncentred"]],
    onChange: (value) => set({ centred: value === "true" }),
  });
  const relative = checkbox({
    label: "Divide by the largest (shape only)", onChange: (value) => set({ relative: value }),
  });
  const status = liveText();
  const again = button("Read again", () => link.ask({ type: "read" }));
  again.hidden = true;
  const main = chart("", { height: 380, log: true, xLabel: "singular value, largest first" });
  const small = SERIES.map(([key, title]) => [key, chart(title, { height: 118, onScrub: scrub })]);
  root.append(
    h("div", { class: "scxr-row" }, runBoxes, time.root, axis.root, centring.root, relative.root, again),
    h("div", { class: "scxr-charts" }, main.root, h("div", { class: "scxr-small" }, ...small.map(([, c]) => c.root))),
    status,
    h("p", { class: "scxr-note", text: "Effective rank centres the features first and ignores their scale; RankMe keeps the mean; "
      + "the cosine sees mostly the mean. Faint lines show the first measurement." }),
  );
  const link = kernel(model, root, {
    ready: (abilities) => { again.hidden = !abilities.has("read"); },
    reply: (message) => { if (message.type === "error") { say(status, message.message); status.classList.add("error"); } },
  });

  const chosen = () => get("runs").map((run, i) => ({ ...run, i })).filter((run) => get("chosen").includes(run.name));
  const moments = () => [...new Set(chosen().flatMap((run) => run[get("axis")]))].sort((a, b) => a - b);

  function scrub(x) {
    const all = moments();
    set({ at: all[nearest(all, x)] });
  }

  // The same moment on the other axis: that of the measurement which is shown now.
  function changeAxis(next) {
    const [first] = chosen();
    const row = first ? rowAt(first[get("axis")], get("at")) : 0;
    set({ axis: next, at: first ? first[next][row] : 0 });
  }

  function spectrumOf(run, row, kind) {
    if (decoded[0] !== get("spectra")) decoded = [get("spectra"), get("spectra").map(floats)];
    const which = run.kinds.indexOf(kind);
    if (which < 0) return [];
    const width = run.index.length;
    const start = (row * run.kinds.length + which) * width;
    return [...decoded[1][run.i].subarray(start, start + width)];
  }

  function drawSpectra(runs, kind) {
    const top = Math.log10(get("relative") ? 1 : Math.max(...runs.map((run) => run.largest?.[kind] ?? 0)) || 1);
    const floor = top - 6; // a millionth of the largest value: what is below is rounding
    const line = (run, row, ghost) => {
      const values = spectrumOf(run, row, kind);
      const unit = get("relative") ? values[0] || 1 : 1;
      return { style: `s${run.i}`, ghost, 
        points: values.map((v, i) => [run.index[i], Math.log10(v / unit)]).filter(([, y]) => y > floor) };
    };
    const series = runs.flatMap((run) => [line(run, 0, true), line(run, run.row, false)]).filter((l) => l.points.length);
    const ys = series.flatMap((l) => l.points.map(([, y]) => y));
    const width = Math.max(2, ...runs.map((run) => run.dimensions));
    // The scale stays put while training runs, so that the eye sees the values fall.
    main.draw(series, { x: [1, width], y: [Math.min(top - 3, ...ys), top + 0.15] });
    main.root.firstChild.textContent = `Singular values of the ${kind} features` + (get("relative") ? ", largest = 1" : "");
    main.svg.setAttribute("aria-label", `Singular values on a logarithmic axis; faint lines are the first measurement. ` +
      runs.map((run) => `${run.name}: first value holds ${percent(run.share[kind]?.[run.row])} of the sum`).join("; "));
    main.values.replaceChildren(...runs.map((run) => h("li", { class: `c${run.i}`, "data-run": run.name, "data-metric": `share_${kind}`,
      "data-value": run.share[kind]?.[run.row], text: `first value: ${percent(run.share[kind]?.[run.row])} of the sum` })));
  }

  function drawSmall([key, plot], runs, xs) {
    const name = get("axis");
    const series = runs.map((run) => {
      const source = key === "loss" ? run.loss : { [name]: run[name], value: run[key] };
      if (!source?.value) return { run, style: `s${run.i}`, points: [] };
      const row = rowAt(source[name], get("at"));
      const all = source.value.map((y, i) => [source[name][i], y]);
      const now = all[row][1] === null ? null : all[row];
      return { run, style: `s${run.i}`, points: finite(all), dot: now, now: now?.[1] };
    });
    plot.root.hidden = !series.some((l) => l.points.length);
    plot.values.replaceChildren(...series.map(({ run, now }) => h("li", { class: `c${run.i}`, "data-run": run.name,
      "data-metric": key, "data-value": now, text: number(now) })));
    plot.draw(series, { x: xs, y: bounds(series), cursor: get("at") });
    plot.svg.setAttribute("aria-label", `${plot.root.firstChild.textContent}: ` + series.map(({ run, now }) => `${run.name} ${number(now)}`).join(", "));
  }

  function redraw() {
    const kind = get("centred") ? "centred" : "uncentred";
    const runs = chosen().map((run) => ({ ...run, row: rowAt(run[get("axis")], get("at")) }));
    const all = moments();
    time.stops(all.length ? all : [0]);
    time.set(get("at"));
    axis.set(get("axis"));
    centring.set(String(get("centred")));
    relative.input.checked = get("relative");
    runBoxes.replaceChildren(...runBoxes.children.length === get("runs").length ? runBoxes.children : boxes());
    drawSpectra(runs, kind);
    small.forEach((pair) => drawSmall(pair, runs, [all[0] ?? 0, all.at(-1) ?? 1]));
    status.classList.remove("error");
    say(status, runs.length ? sentence(runs) : "Choose at least one run.");
  }

  function boxes() {
    return get("runs").map((run, i) => {
      const box = checkbox({ label: run.name, onChange: (on) => set({
        chosen: get("runs").map((r) => r.name).filter((name) => (name === run.name ? on : get("chosen").includes(name))) }) });
      box.input.checked = get("chosen").includes(run.name);
      box.root.lastChild.prepend(s("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" },
        s("path", { class: `s${i}`, d: "M0 5H26", "stroke-width": 2.5 })), " ");
      return box.root;
    });
  }

  function sentence(runs) {
    const words = runs.map((run) => {
      const hidden = run.share.uncentred
        ? `; uncentred, the first singular value holds ${percent(run.share.uncentred[run.row])} of the sum, centred ${percent(run.share.centred?.[run.row])}` : "";
      const at = (key) => number(run[key]?.[run.row]);
      return `${run.name}: effective rank ${at("effective_rank")}, RankMe ${at("rankme")}, std ${at("std")}, cosine ${at("mean_cosine")}${hidden}.`;
    });
    return `${get("axis") === "epoch" ? "Epoch" : "Step"} ${+get("at").toFixed(2)}. ${words.join(" ")}`;
  }

  redraw();
  const resized = new ResizeObserver(() => redraw());
  resized.observe(root);
  return () => resized.disconnect();
}

export default { render };

// Will it fit? The parts of a training step as a stacked bar, beside the limit of a card. The rows
// hold, for every combination, what is fixed and what an image adds; the rest is arithmetic.

const PARTS = [
  ["weights", "Weights and buffers"],
  ["gradients", "Gradients"],
  ["optimizer", "Optimiser"],
  ["inputs", "Pictures and views"],
  ["activations", "Activations kept for the backward pass"],
  ["transient", "What comes and goes"],
];
const BATCHES = [8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048];
const KEYS = ["method", "backbone", "size", "precision", "checkpointing"];
const GB = 1e9;
const gigabytes = (bytes) => `${(bytes / GB).toFixed(bytes < GB ? 2 : 1)} GB`;

const fixedOf = (row) => row.parameters + row.gradients + row.optimizer + row.buffers;

// Bytes by part; what comes and goes is what the highest level has above the named parts.
function partsOf(row, batch) {
  const grown = (name) => row[`${name}_fixed`] + batch * row[`${name}_per_image`];
  const named = fixedOf(row) + grown("inputs") + grown("activations");
  return {
    weights: row.parameters + row.buffers, gradients: row.gradients, optimizer: row.optimizer,
    inputs: grown("inputs"), activations: grown("activations"),
    transient: Math.max(0, Math.max(grown("peak"), row.update_peak + grown("inputs")) - named),
  };
}
const sum = (parts) => Object.values(parts).reduce((a, b) => a + b, 0);

function largestBatch(row, room) {
  const named = (room - fixedOf(row) - row.inputs_fixed - row.activations_fixed)
    / (row.inputs_per_image + row.activations_per_image);
  const peak = (room - row.peak_fixed) / row.peak_per_image;
  const update = (room - row.update_peak - row.inputs_fixed) / row.inputs_per_image;
  const most = Math.floor(Math.min(named, peak, update));
  return most >= 2 ? most : 0;
}

function render({ model, el }) {
  const root = shell(el, "memory", "Will it fit?");
  const get = (name) => model.get(name);
  const set = watch(model, ["rows", "cards", "batch", "card", ...KEYS], redraw);
  const values = (key) => [...new Set(get("rows").map((row) => row[key]))];
  const names = { "32-true": "float32", "bf16-mixed": "bfloat16", "16-mixed": "float16" };

  // Not every combination need be there: keep as much of the choice as a row allows.
  function change(key, value) {
    const wanted = Object.fromEntries(KEYS.map((k) => [k, k === key ? value : get(k)]));
    const score = (row) => (row[key] === value ? KEYS.length : 0) + KEYS.filter((k) => row[k] === wanted[k]).length;
    const best = get("rows").reduce((a, b) => (score(b) > score(a) ? b : a));
    set(Object.fromEntries(KEYS.map((k) => [k, best[k]])));
  }

  const method = select({ label: "Method", onChange: (v) => change("method", v) });
  const backbone = select({ label: "Network", onChange: (v) => change("backbone", v) });
  const size = choice({ label: "Size of a view", options: values("size").map((v) => [String(v), `${v} px`]),
    onChange: (v) => change("size", Number(v)) });
  const precision = choice({ label: "Precision", options: values("precision").map((v) => [v, names[v] ?? v]),
    onChange: (v) => change("precision", v) });
  const thrifty = checkbox({ label: "Checkpointing: compute inner maps again in the backward pass",
    onChange: (v) => change("checkpointing", v) });
  const batch = slider({ label: "Batch", format: (v) => `${v} images`, onInput: (v) => set({ batch: v }) });
  const card = choice({ label: "Memory of the card", options: get("cards").map((v) => [String(v), `${v} GB`]),
    onChange: (v) => set({ card: Number(v) }) });
  const bar = s("svg", { role: "img", height: 84 });
  const list = h("ul", { class: "scxr-memory-parts" });
  const status = liveText();
  root.append(
    h("div", { class: "scxr-row" }, method.root, backbone.root, size.root, precision.root, batch.root, card.root, thrifty.root),
    bar, list, status,
    h("p", { class: "scxr-note", text: "GB is 10⁹ bytes. Counted, not measured: what CUDA, cuDNN and the gaps of PyTorch's allocator take comes on top. "
      + "A card counts in GiB, which are 7 % larger; that leaves them room. An L4, sold with 24 GB, shows 22 GiB: choose 22." }),
  );

  const rowNow = () => get("rows").find((row) => KEYS.every((k) => row[k] === get(k))) ?? get("rows")[0];

  function draw(parts, all, room) {
    const width = Math.max(200, bar.clientWidth || 600);
    const scale = (width - 4) / Math.max(all, room) / 1.08;
    const marks = [];
    let at = 2;
    PARTS.forEach(([key], i) => {
      const wide = parts[key] * scale;
      marks.push(s("rect", { x: at, y: 26, width: wide, height: 34, style: `fill: var(--s${i})`, "data-part": key }));
      at += wide;
    });
    const edge = 2 + room * scale;
    marks.push(
      s("path", { d: `M${edge} 18V70`, style: `stroke: var(--${all > room ? "warn" : "ink"}); stroke-width: 3` }),
      s("text", { x: Math.min(edge, width - 30), y: 13, "text-anchor": "middle", style: "fill: var(--ink); font-size: 13px", text: `${get("card")} GB` }),
    );
    bar.setAttribute("viewBox", `0 0 ${width} 84`);
    bar.setAttribute("width", "100%");
    bar.replaceChildren(...marks);
  }

  function redraw() {
    const row = rowNow();
    const [parts, room] = [partsOf(row, get("batch")), get("card") * GB];
    const all = sum(parts);
    method.options(values("method").map((v) => [v, get("titles")[v] ?? v]), row.method);
    backbone.options(values("backbone").map((v) => [v, v]), row.backbone);
    size.set(String(row.size));
    precision.set(row.precision);
    thrifty.input.checked = row.checkpointing;
    card.set(String(get("card")));
    batch.stops([...new Set([...BATCHES, get("batch")])].sort((a, b) => a - b));
    batch.set(get("batch"));
    draw(parts, all, room);
    list.replaceChildren(...PARTS.map(([key, name], i) => h("li", { "data-part": key, "data-bytes": Math.round(parts[key]) },
      h("span", { class: "swatch", "aria-hidden": "true", style: `background: var(--s${i})` }), `${name}: ${gigabytes(parts[key]).replace(" ", "\u00a0")}`)));
    const most = largestBatch(row, room);
    const verdict = all <= room ? `fits into ${get("card")} GB` : `does not fit into ${get("card")} GB`;
    const sentence = `A step takes ${gigabytes(all)} and ${verdict}; `
      + (most ? `the largest batch that does is ${most}.` : "no batch does.");
    bar.setAttribute("aria-label", `${PARTS.map(([key, name]) => `${name} ${gigabytes(parts[key])}`).join(", ")}; the card has ${get("card")} GB`);
    Object.assign(status.dataset, { total: Math.round(all), most, fits: all <= room ? "1" : "0" });
    status.classList.toggle("error", all > room);
    say(status, sentence);
  }

  redraw();
  kernel(model, root, { ready: () => {}, reply: () => {} });
  const resized = new ResizeObserver(() => redraw());
  resized.observe(root);
  return () => resized.disconnect();
}

export default { render };

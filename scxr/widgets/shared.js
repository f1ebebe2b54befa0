// What the widgets share. Python puts this file (and pictures.js) before the widget's own, so that
// each widget is one ES module that loads nothing: no import, no network, no build step.

const SVG = "http://www.w3.org/2000/svg";
const PREFIX = `scxr-${Math.random().toString(36).slice(2, 8)}`;
let count = 0;
const newId = () => `${PREFIX}-${++count}`;

// ---------------------------------------------------------------- elements

function fill(node, props, children) {
  for (const [key, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "text") node.textContent = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);
const s = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

function shell(el, name, title) {
  const heading = newId();
  const root = h("section", { class: "scxr-widget", "data-widget": name, "aria-labelledby": heading });
  root.append(h("p", { class: "scxr-title", id: heading, text: title }));
  // JupyterLab binds the arrow keys in its notebooks and would take them away from the sliders,
  // unless the focused element itself carries this attribute.
  root.addEventListener("focusin", ({ target }) => target.setAttribute("data-lm-suppress-shortcuts", "true"));
  el.append(root);
  return root;
}

const liveText = () =>
  h("p", { class: "scxr-status", role: "status", "aria-live": "polite" });

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// ---------------------------------------------------------------- controls, each a labelled input

// A slider over numbers {min, max, step}, or over the few values in `stops` that exist.
function slider({ label, hint, format = String, onInput }) {
  const id = newId();
  const input = h("input", { type: "range", id, "aria-describedby": hint ? `${id}-hint` : null });
  const output = h("output", { for: id });
  const root = h("div", { class: "scxr-control" },
    h("div", { class: "scxr-control-head" }, h("label", { for: id, text: label }), output),
    input,
    hint ? h("small", { id: `${id}-hint`, text: hint }) : null);
  let stops = null;
  const read = () => (stops ? stops[Number(input.value)] : Number(input.value));
  const show = (value) => {
    output.textContent = format(value);
    input.setAttribute("aria-valuetext", format(value));
  };
  input.addEventListener("input", () => { show(read()); onInput(read()); });
  return {
    root, input,
    range({ min, max, step }) { stops = null; Object.assign(input, { min, max, step }); },
    stops(values) { stops = values; Object.assign(input, { min: 0, max: values.length - 1, step: 1 }); },
    set(value) {
      input.value = stops ? nearest(stops, value) : value;
      show(stops ? read() : value);
    },
  };
}

function nearest(values, value) {
  let best = 0;
  values.forEach((v, i) => { if (Math.abs(v - value) < Math.abs(values[best] - value)) best = i; });
  return best;
}

function select({ label, onChange }) {
  const id = newId();
  const input = h("select", { id, onchange: () => onChange(input.value) });
  return {
    root: h("div", { class: "scxr-control" }, h("label", { for: id, text: label }), input),
    input,
    options(pairs, value) {
      input.replaceChildren(...pairs.map(([key, text]) => h("option", { value: key, text })));
      input.value = value;
    },
  };
}

function checkbox({ label, onChange }) {
  const id = newId();
  const input = h("input", { type: "checkbox", id, onchange: () => onChange(input.checked) });
  return { root: h("div", { class: "scxr-check" }, input, h("label", { for: id, text: label })), input };
}

// One of a few: radio buttons that look like one segmented button.
function choice({ label, options, onChange }) {
  const name = newId();
  const inputs = new Map();
  const row = h("div", { class: "scxr-segments" });
  for (const [value, text] of options) {
    const id = newId();
    const input = h("input", { type: "radio", name, id, value, onchange: () => onChange(value) });
    inputs.set(value, input);
    row.append(h("span", null, input, h("label", { for: id, text })));
  }
  return {
    root: h("fieldset", { class: "scxr-choice" }, h("legend", { text: label }), row),
    inputs,
    set(value) { inputs.forEach((input, key) => { input.checked = key === value; }); },
  };
}

// A picture file of the reader's own; it goes to the kernel on the reader's machine, nowhere else.
function ownPicture(onRead) {
  const id = newId();
  const input = h("input", { type: "file", id, accept: "image/*,.dcm,.dicom", onchange: async () => {
    if (input.files[0]) onRead(await input.files[0].arrayBuffer());
    input.value = "";
  } });
  const root = h("div", { class: "scxr-control" }, h("label", { for: id, text: "A picture of your own" }), input);
  root.hidden = true;
  return { root, input };
}

const button = (text, onclick) => h("button", { type: "button", text, onclick });

// ---------------------------------------------------------------- state and kernel

// Redraw once after any of the named traits changed, whoever changed them.
function watch(model, names, redraw) {
  let pending = false;
  const later = () => {
    if (pending) return;
    pending = true;
    queueMicrotask(() => { pending = false; redraw(); });
  };
  names.forEach((name) => model.on(`change:${name}`, later));
  return (values) => {
    Object.entries(values).forEach(([name, value]) => model.set(name, value));
    model.save_changes(); // without a kernel this goes nowhere, and does no harm
  };
}

// Ask whether Python is there. On paper nobody answers, and what needs a kernel stays hidden.
// One request is under way at a time; of those that come meanwhile only the last is sent.
function kernel(model, root, { ready, reply }) {
  const PATIENCE = 20000;
  let latest = 0;
  let waiting = null; // timer of the request under way
  let queued = null;
  const send = ({ content, buffers }) => {
    root.setAttribute("aria-busy", "true");
    latest += 1;
    waiting = setTimeout(() => done({ type: "error", message: "The kernel does not answer. Is it busy, or gone?" }), PATIENCE);
    model.send({ ...content, id: latest }, undefined, buffers);
  };
  const done = (message, buffers = []) => {
    clearTimeout(waiting);
    waiting = null;
    root.removeAttribute("aria-busy");
    if (queued) send(queued);
    else reply(message, buffers.map(bytes));
    queued = null;
  };
  model.on("msg:custom", (message, buffers) => {
    if (message.type === "pong") {
      root.dataset.kernel = "live";
      ready?.(new Set(message.abilities));
    } else if (waiting !== null && message.id === latest) {
      done(message, buffers ?? []);
    }
  });
  model.send({ type: "ping" });
  return {
    ask(content, buffers = []) {
      if (waiting === null) send({ content, buffers });
      else queued = { content, buffers };
    },
    forget() { // what was asked is no longer wanted
      clearTimeout(waiting);
      waiting = queued = null;
      root.removeAttribute("aria-busy");
    },
  };
}

// ---------------------------------------------------------------- numbers

function bytes(data) {
  if (data instanceof Uint8Array) return data;
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

const floats = (data) => new Float32Array(bytes(data).slice().buffer);

function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(1).replace("-", "−");
  return value.toPrecision(Math.max(digits, Math.ceil(Math.log10(size + 1e-9)))).replace("-", "−");
}
const percent = (value, digits = 0) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)} %`);

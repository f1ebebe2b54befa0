// SparK: what the network saw, what it painted, and where it was wrong.

// The pictures of a prediction in the order of Python's VIEWS behind the first, which is the input;
// a kernel answers with the input before them and the error behind them.
const ORDER = ["neighbours", "oracle", "global", "raw", "stitched", "series"];
const VIEWS = [
  ["neighbours", "composite", "Hidden patches as painted. Their brightness and contrast come from the visible patches nearby: nothing hidden is used."],
  ["stitched", "stitched", "Hidden patches as painted, in the brightness and contrast with which both sides of every border agree. Nothing hidden is used; honest mistakes may be smoothed over."],
  ["oracle", "true exposure", "Hidden patches as painted, in their own true brightness and contrast. It shows best what was drawn, with two numbers a patch that the network cannot know."],
  ["global", "one exposure", "Hidden patches as painted, all in the mean and spread of the visible pixels of the whole picture: air and bone get the same grey, so the patches never fuse."],
  ["series", "series", "The picture of the SCARCE-CXR series: one exposure, edges feathered. The feathering mixes the original in, so along the borders it shows what the network never saw."],
  ["raw", "raw", "What leaves the network: every patch in its own scale, visible ones too. Mid grey is a patch's mean."],
  ["error", "error", "Difference between the composite and the truth, as a share of the grey range; visible patches have none."],
];

async function render({ model, el }) {
  const root = shell(el, "reconstruction", "What the network paints where it cannot see");
  const get = (name) => model.get(name);
  const set = watch(model, ["image", "epoch", "ratio", "view"], redraw);
  const [count, height, width] = get("shape");
  const [rows, columns] = get("grid");
  const [originals, inputs, pictures, errors] = await Promise.all([
    ...["originals", "inputs", "pictures"].map((name) => openSheet(get(name), width, height)), unpack(get("errors"), width, height)]);
  let own = null; // the reader's mask and the kernel's answer: {mask, frames, score}
  let cell = 0;

  const image = select({ label: "Image", onChange: (value) => change({ image: Number(value) }) });
  const ratio = select({ label: "Hidden share", onChange: (value) => change({ ratio: Number(value) }) });
  const epoch = slider({ label: "Epoch", format: (i) => `${+get("epochs")[i].toFixed(2)}`, onInput: (value) => change({ epoch: value }) });
  epoch.stops(get("epochs").map((_, i) => i));
  const view = choice({ label: "Show", options: VIEWS, onChange: (value) => set({ view: value }) });
  const original = picture(width, height, "The original.");
  const input = picture(width, height, "");
  const output = picture(width, height, "");
  const bar = colourBar("0 %", "50 %");
  output.root.append(bar);
  const status = liveText();
  const editor = h("div", { class: "scxr-buttons" },
    button("Hide nothing", () => edit(() => 0)), button("Hide the other patches", () => edit((v) => 1 - v)),
    button("Back to the snapshots", () => change({})));
  editor.hidden = true;
  const note = h("p", { class: "scxr-note" });
  root.append(h("div", { class: "scxr-row" }, image.root, ratio.root, epoch.root, view.root),
    h("div", { class: "scxr-pictures lead-last" }, original.root, input.root, output.root), status, editor, note);

  const link = kernel(model, root, {
    ready: (abilities) => { if (abilities.has("predict")) openEditor(); },
    reply(message, frames) {
      own.frames = message.type === "error" ? null : frames;
      own.score = message.score;
      redraw();
      if (message.type === "error") { say(status, message.message); status.classList.add("error"); }
    },
  });

  function change(values) {
    own = null;
    link.forget();
    set(values);
    redraw();
  }

  // ---- masking by hand: click a patch, or walk with the arrow keys and press the space bar

  function openEditor() {
    editor.hidden = false;
    input.stage.classList.add("active");
    Object.entries({ tabindex: 0, role: "application", "aria-label": "Patches: arrow keys move, space hides or shows one" })
      .forEach(([key, value]) => input.stage.setAttribute(key, value));
    input.stage.addEventListener("click", (event) => {
      const box = input.canvas.getBoundingClientRect();
      const at = (p, n) => Math.min(n - 1, Math.max(0, Math.floor(p * n)));
      cell = at((event.clientY - box.top) / box.height, rows) * columns + at((event.clientX - box.left) / box.width, columns);
      toggle();
    });
    input.stage.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (event.key === " ") toggle();
      else if (move) walk(move);
      else return;
      event.preventDefault();
    });
    redraw();
  }
  function walk([down, right]) {
    const row = Math.min(rows - 1, Math.max(0, Math.floor(cell / columns) + down));
    cell = row * columns + Math.min(columns - 1, Math.max(0, (cell % columns) + right));
    redraw();
    say(status, `Row ${row + 1}, column ${(cell % columns) + 1}: ${mask()[cell] ? "hidden" : "visible"}.`);
  }
  const toggle = () => edit((hidden, i) => (i === cell ? 1 - hidden : hidden));
  function edit(rule) {
    own = { mask: mask().map(rule), frames: null };
    redraw();
    if (own.mask.some(Boolean)) link.ask({ type: "predict", image: get("image"), mask: own.mask });
    else link.forget();
  }

  // ---- drawing

  const mask = () => own?.mask ?? get("masks")[get("ratio")][get("image")];
  const place = () => (get("epoch") * get("ratios").length + get("ratio")) * count + get("image");

  function redraw() {
    image.options(Array.from({ length: count }, (_, i) => [i, `${i + 1} of ${count}`]), String(get("image")));
    ratio.options(get("ratios").map((r, i) => [i, percent(r)]), String(get("ratio")));
    ratio.root.hidden = get("ratios").length < 2;
    epoch.set(get("epoch"));
    epoch.input.disabled = own !== null;
    view.set(get("view"));
    status.classList.remove("error");
    original.frame(originals, get("image"));
    original.alt(`Original radiograph ${get("image") + 1}`);
    drawInput();
    drawOutput();
    report();
    note.textContent = editor.hidden
      ? "On paper: snapshots of training, made under fixed masks. In Jupyter or Colab you hide patches by hand and the network answers."
      : "A kernel answers: click patches of the input to hide or show them. The trained network paints, whatever the epoch.";
  }

  function drawInput() {
    const share = mask().reduce((a, b) => a + b, 0) / mask().length;
    input.clear();
    if (own) original.copyTo(input, mask(), rows, columns);
    else input.frame(inputs, get("ratio") * count + get("image"));
    if (!editor.hidden) {
      const [w, hgt] = [width / columns, height / rows];
      input.overlay.append(s("path", { class: "grid", d: lines(rows, columns) }));
      input.overlay.append(s("path", { class: "chosen", d: `M${(cell % columns) * w} ${Math.floor(cell / columns) * hgt}h${w}v${hgt}h${-w}z` }));
    }
    input.caption(`What the network sees: ${percent(share)} of the patches are hidden${own ? ", by you" : ""}.`);
    input.alt(`The radiograph with ${percent(share)} of its patches hidden`);
  }
  const lines = (r, c) => [...Array.from({ length: r - 1 }, (_, i) => `M0 ${((i + 1) * height) / r}H${width}`),
    ...Array.from({ length: c - 1 }, (_, i) => `M${((i + 1) * width) / c} 0V${height}`)].join("");

  function drawOutput() {
    const [key, name, meaning] = VIEWS.find(([known]) => known === get("view"));
    const index = ORDER.indexOf(key);
    bar.hidden = key !== "error";
    output.caption(`${name[0].toUpperCase()}${name.slice(1)}. ${meaning}`);
    output.alt(`${name}: ${meaning}`);
    output.root.style.opacity = own && !own.frames ? 0.4 : 1;
    if (own && !own.frames) return;
    if (key !== "error") {
      if (own) output.grey(own.frames[index + 1]);
      else output.frame(pictures, place() * ORDER.length + index);
      return;
    }
    const error = own ? own.frames[ORDER.length + 1] : errors[place()];
    output.frame(originals, get("image"));
    const cells = mask();
    const patch = (i) => Math.floor((Math.floor(i / width) * rows) / height) * columns + Math.floor(((i % width) * columns) / width);
    output.heat(error, (_, i) => (cells[patch(i)] ? 0.9 : 0));
  }

  function report() {
    const flat = get("ratio") * count + get("image");
    const score = own ? own.score : get("scores")[get("epoch")][flat];
    const known = score !== undefined && !(own && !own.frames);
    status.dataset.score = known ? score : "";
    if (!known) return say(status, own.mask.some(Boolean) ? "The network paints …" : "Nothing is hidden: hide some patches.");
    const first = own ? "" : ` At epoch ${+get("epochs")[0].toFixed(2)} it was ${number(get("scores")[0][flat], 3)}.`;
    const when = own ? "Your mask, the trained network" : `Epoch ${+get("epochs")[get("epoch")].toFixed(2)}`;
    say(status, `${when}: squared error on hidden pixels ${number(score, 3)}; painting every patch's mean would score 1.${first}`);
  }

  redraw();
}

export default { render };

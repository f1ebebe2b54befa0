// Augmentations: one change at a time on paper, any setting with a kernel; the finding goes along.

const CROP = ["area", "across", "down"];
const FORMATS = {
  area: (v) => percent(v), across: (v) => percent(v), down: (v) => percent(v),
  angle: (v) => `${+v.toFixed(1)}°`.replace("-", "−"),
  brightness: (v) => `×${v.toFixed(2)}`, contrast: (v) => `×${v.toFixed(2)}`,
  sigma: (v) => `${v.toFixed(2)} px`, noise: (v) => percent(v, 1),
};
const MODES = [["hand", "one change at a time"], ["pair", "two random views"]];

async function render({ model, el }) {
  const root = shell(el, "augmentation", "What an augmentation changes, and what it must not");
  const get = (name) => model.get(name);
  const set = watch(model, ["image", "mode", "values", "pair", "outlined"], redraw);
  const size = get("size");
  const frames = get("frames").map((frame, index) => ({ ...frame, index }));
  const controls = get("controls");
  const neutral = Object.fromEntries(controls.map((c) => [c.key, c.neutral]));
  const [originals, views, regions, masks] = await Promise.all([openSheet(get("originals"), size, size),
    openSheet(get("views"), size, size), unpack(get("regions"), size, size), unpack(get("view_masks"), size, size)]);
  const own = []; // pictures that the reader loaded, known to the kernel by their number
  let live = false;
  let answered = null; // what the kernel computed for the setting shown now

  const image = select({ label: "Image", onChange: (value) => change({ image: Number(value) }) });
  const mode = choice({ label: "Show", options: MODES, onChange: (value) => change({ mode: value }) });
  const outlined = checkbox({ label: "Outline the finding", onChange: (value) => set({ outlined: value }) });
  const upload = ownPicture((data) => link.ask({ type: "add" }, [data]));
  const original = picture(size, size, "");
  const sides = [picture(size, size, ""), picture(size, size, "")];
  const status = liveText();
  const widgets = new Map(controls.map((c) => [c.key, build(c)]));
  const hand = h("div", { class: "scxr-row three" }, ...[...widgets.values()].map((w) => w.root));
  const reset = button("Back to the untouched picture", () => change({ values: neutral }));
  const pair = slider({ label: "Pair", format: (v) => `${v + 1}`, onInput: (value) => change({ pair: value }),
    hint: "Both views are drawn anew for every image and every step, as the method does. The network has to tell that they belong together." });
  const random = h("div", { class: "scxr-row" }, pair.root);
  const note = h("p", { class: "scxr-note" });
  root.append(h("div", { class: "scxr-row" }, image.root, mode.root, outlined.root, upload.root),
    h("div", { class: "scxr-pictures lead-first" }, original.root, ...sides.map((v) => v.root)), status,
    h("div", { class: "scxr-settings" }, hand, reset, random), note);
  original.canvas.addEventListener("pointerdown", drag);
  original.canvas.addEventListener("pointermove", drag);

  const link = kernel(model, root, {
    ready: () => { live = true; upload.root.hidden = false; redraw(); },
    reply: receive,
  });

  function build(control) {
    const hint = `${control.reason} Drawn here: ${control.recipe}.`.trim();
    if (control.key !== "flip") {
      return slider({ label: control.label, hint, format: FORMATS[control.key], onInput: (v) => turn(control.key, v) });
    }
    const box = checkbox({ label: control.label, onChange: (on) => turn("flip", on ? 1 : 0) });
    const small = h("small", { id: newId(), text: hint });
    box.input.setAttribute("aria-describedby", small.id);
    return { root: h("div", { class: "scxr-control" }, box.root, small), input: box.input, set(v) { box.input.checked = v > 0.5; } };
  }

  // On paper the other controls go back: only single changes were computed.
  function turn(key, value) {
    const kept = live ? get("values") : CROP.includes(key)
      ? Object.fromEntries(CROP.map((k) => [k, get("values")[k]])) : {};
    const values = { ...neutral, ...kept, [key]: value };
    if (values.area >= 1) Object.assign(values, { across: neutral.across, down: neutral.down });
    change({ values });
  }

  function drag(event) {
    const { area } = get("values");
    if (get("mode") !== "hand" || area >= 1 || (event.type === "pointermove" && !event.buttons)) return;
    const box = original.canvas.getBoundingClientRect();
    const side = Math.sqrt(area);
    const place = (p) => Math.min(1, Math.max(0, (p - side / 2) / (1 - side)));
    const wanted = { across: place((event.clientX - box.left) / box.width), down: place((event.clientY - box.top) / box.height) };
    if (!live) for (const k of ["across", "down"]) wanted[k] = snap(k, wanted[k]);
    change({ values: { ...(live ? get("values") : neutral), area, ...wanted } });
  }
  function snap(key, value) {
    const { stops } = controls.find((c) => c.key === key);
    return stops[nearest(stops, value)];
  }

  function change(values) {
    answered = null;
    set(values);
    if (live) request();
  }
  function request() {
    const ask = get("mode") === "hand" ? { type: "view", values: get("values") } : { type: "pair", pair: get("pair") };
    link.ask({ ...ask, image: get("image") });
  }

  function receive(message, buffers) {
    if (message.type === "error") {
      say(status, message.message);
      return status.classList.add("error");
    }
    if (message.type === "add") {
      own[message.image] = buffers[0];
      return change({ image: message.image });
    }
    answered = message.views.map((numbers, i) => ({ ...numbers, pixels: buffers[2 * i], region: buffers[2 * i + 1] }));
    redraw();
  }

  const same = (a, b) => controls.every(({ key }) => Math.abs(a[key] - b[key]) < 1e-6);
  function current() {
    if (answered) return answered;
    const mine = frames.filter((f) => f.image === get("image"));
    return get("mode") === "hand" ? mine.filter((f) => f.values && same(f.values, get("values")))
      : mine.filter((f) => f.pair === get("pair"));
  }

  function redraw() {
    drawControls();
    const shown = current();
    if (!shown.length) return; // the kernel is at work on it
    status.classList.remove("error");
    drawOriginal(shown);
    sides.forEach((view, i) => {
      view.root.hidden = !shown[i];
      if (shown[i]) drawView(view, shown[i], i);
    });
    report(shown);
  }

  function drawControls() {
    const labels = [...get("labels"), ...own.slice(get("labels").length).map(() => "your picture")];
    image.options(labels.map((label, i) => [i, `${i + 1}: ${label.replaceAll("|", ", ") || "no label"}`]), String(get("image")));
    mode.set(get("mode"));
    mode.inputs.get("hand").nextSibling.textContent = live ? "any setting" : MODES[0][1];
    outlined.input.checked = get("outlined");
    for (const control of controls) {
      const widget = widgets.get(control.key);
      if (widget.range) {
        if (live) widget.range({ min: control.live[0], max: control.live[1], step: control.live[2] });
        else widget.stops(control.stops);
      }
      widget.set(get("values")[control.key]);
      const nowhere = control.key !== "area" && CROP.includes(control.key) && get("values").area >= 1;
      widget.input.disabled = nowhere || (!live && control.stops.length < 2);
    }
    if (live) pair.range({ min: 0, max: 99, step: 1 });
    else pair.stops(Array.from({ length: get("pairs") }, (_, i) => i));
    pair.set(get("pair"));
    hand.hidden = reset.hidden = get("mode") !== "hand";
    random.hidden = !hand.hidden;
    original.stage.classList.toggle("active", !hand.hidden && get("values").area < 1);
    note.textContent = live ? "A kernel answers: every setting is computed as you move."
      : "On paper: these views were computed when the page was built, a crop or one other change at a time; moving one control puts the "
        + "others back. In Jupyter or Colab they move freely and together, and you can load a picture of your own.";
  }

  function drawOriginal(shown) {
    const i = get("image");
    original.clear();
    if (own[i]) original.grey(own[i]);
    else original.frame(originals, i);
    if (get("outlined") && regions[i]) original.path(outline(regions[i], size, size), "finding");
    shown.forEach((view, k) => original.path(polygon(view.corners.map(([x, y]) => [x * size, y * size])), k ? "view-b" : "view-a"));
    original.caption(shown.length > 1 ? "The original, with both crops: A solid, B dashed." : "The original, with the crop." +
      (original.stage.classList.contains("active") ? " Drag to move it." : ""));
    original.alt(`Original radiograph: ${get("labels")[i] ?? "your picture"}`);
  }

  function drawView(view, shown, i) {
    view.clear();
    if (shown.pixels) view.grey(shown.pixels);
    else view.frame(views, shown.index);
    if (get("outlined")) view.path(outline(shown.region ?? masks[shown.mask], size, size), "finding");
    const name = get("mode") === "hand" ? "The view" : `View ${"AB"[i]}`;
    const words = controls.filter(({ key, neutral: none }) => key in shown.drawn && Math.abs(shown.drawn[key] - none) > 5e-4)
      .map(({ key, label }) => (key === "flip" ? "mirrored" : `${label.toLowerCase()} ${FORMATS[key](shown.drawn[key])}`));
    view.caption(`${name}: ${words.join(", ") || "untouched"}.`);
    view.alt(`${name}: ${left(shown)}`);
  }

  function left(shown) {
    if (shown.left === null) return "no finding is marked in this picture.";
    if (shown.left < 0.005) return "nothing of the finding is left in the view.";
    const cnr = shown.stands_out === null ? "too little to say how much it stands out" : `contrast to noise ${shown.stands_out.toFixed(2)}`;
    return `${percent(shown.left)} of the finding is left; it covers ${percent(shown.covers, 1)} of the view, ${cnr}.`;
  }

  function report(shown) {
    status.dataset.left = shown.map((v) => v.left ?? "").join(" ");
    status.dataset.standsOut = shown.map((v) => v.stands_out ?? "").join(" ");
    const text = shown.length > 1 ? shown.map((v, i) => `View ${"AB"[i]}: ${left(v)}`).join(" ") : left(shown[0]);
    const untouched = frames.find((f) => f.image === get("image") && f.values && same(f.values, neutral));
    const compare = shown.length === 1 && shown[0].stands_out !== null && untouched && untouched.index !== shown[0].index;
    const before = compare ? ` (${untouched.stands_out?.toFixed(2) ?? "–"} untouched)` : "";
    say(status, (text[0].toUpperCase() + text.slice(1)).replace(/\.$/, `${before}.`));
  }

  redraw();
}

export default { render };
